"""What a network is trained for. An objective is a function `(network, bits) -> loss in bits per
byte`.

config        the settings of what follows
next_bit      the code length of each bit given all bits before it
regularizers  the same with penalties on K, C and S of the predictions
"""
