"""A runtime layer for LangChain and LangGraph."""
