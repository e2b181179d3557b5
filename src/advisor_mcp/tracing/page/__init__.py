"""The page of a diagnosis: one HTML file that needs nothing else, for people who have never seen a trace."""
