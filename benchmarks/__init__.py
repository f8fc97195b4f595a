"""Speed, always as a ratio within one run: variants take turns, in alternating order."""
