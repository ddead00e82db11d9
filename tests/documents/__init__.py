"""Reads the documents: their code blocks with the marks before them, and the pages that are generated."""
