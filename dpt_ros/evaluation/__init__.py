"""How good a network is: data sets, protocols, scores, and the numbers that were published."""
