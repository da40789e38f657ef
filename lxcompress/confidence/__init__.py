"""How sure a model is: the probability of its answers, its temperature, and when it should answer."""
