"""What every part agrees on: data, protocols, errors. Knows pydantic and LangChain's messages, nothing else."""
