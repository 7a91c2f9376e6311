"""The embedded log: one process, one folder, the same API as a cluster's client.

`store` says what stands where in the journal, `folder` formats and recovers a data folder, `log`
is what users hold.
"""
