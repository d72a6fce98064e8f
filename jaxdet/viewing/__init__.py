"""Pictures: drawn boxes, films, plots, comparisons."""
