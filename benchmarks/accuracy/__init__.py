"""How far the tools are off: every suite compares one tool's answers with published or exact values of a data folder."""
