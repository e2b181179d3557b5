"""Findings on the structured logs of torch.compile."""
