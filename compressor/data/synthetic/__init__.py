"""The embedded corpus: German-English pairs and reports with summaries, generated from a seed."""
