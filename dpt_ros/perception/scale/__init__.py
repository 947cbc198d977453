"""
Metres that a robot can trust: where the scale of a frame comes from, and how it stays steady.

`metres` knows the units of network outputs, `fit` finds scale and offset among outliers, `ground`
tells how far a flat floor is, `tracker` follows a scale over time, and `scaler` holds them
together: one mode, one state a camera.
"""
