"""One file per rule or small group of rules; a function's docstring is the rule's page."""
