"""Facts with a source each, and the store that answers from them."""

from advisor_mcp.knowledge.store import Hit, Page, find, ids, names, open_store, search

__all__ = ["Hit", "Page", "find", "ids", "names", "open_store", "search"]
