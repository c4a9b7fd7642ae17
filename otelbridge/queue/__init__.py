"""HOLD: the durable queue. Batches of encoded records wait here until someone answers for them."""
