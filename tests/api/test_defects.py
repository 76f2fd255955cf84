"""Defects seen in the peer that tidings must not have. (Being written by another helper: leave alone; link its tests.)"""
