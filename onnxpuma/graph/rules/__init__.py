"""The rewriting rules, one idea a file; `canonicalise` applies them in the order of its list."""
