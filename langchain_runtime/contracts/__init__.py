"""What every part agrees on: data, protocols and errors. Imports pydantic, LangChain's messages and the standard library."""
