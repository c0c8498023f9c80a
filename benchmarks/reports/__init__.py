"""Results as tables and plots: in a terminal, as Markdown, as HTML."""
