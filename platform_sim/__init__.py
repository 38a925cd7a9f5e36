"""A small stand-in of the vending platform that sells what the machines dispense.

It imports nothing of the machine's side: what both know is the MQTT contract alone.
"""
