"""HOLD: the durable queue. Batches of encoded records stay here until they are settled."""
