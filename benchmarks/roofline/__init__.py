"""The time of a search along each of its dimensions, beside the least time that the core allows (roofline)."""
