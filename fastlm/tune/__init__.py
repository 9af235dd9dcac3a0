"""Measures which settings train fastest on this machine, for fastlm.train to use."""
