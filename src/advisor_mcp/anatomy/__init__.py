"""A model's configuration -> Architecture -> the tensor inventory and the operation inventory."""
