"""The HTTP filters, one file for each, in the order in which a request meets them."""
