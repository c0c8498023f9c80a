"""Hugging Face `generate` over graphs in OpenVINO's format."""
