"""Lower, place and fold: small pure functions over the inventories."""
