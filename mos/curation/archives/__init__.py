"""A tar, plain or compressed, as a stream of members: every size is bounded before it is read."""
