"""Effects on `extern/`: the lock, the journal, the switch from one tree to another.

All or nothing. After an error, a full disk or a kill at any step, the work tree is the old one or the new one. The
user's own files in it are untouched. A command works in this order::

    with lock.hold(location.lock_file, location.name):
        journal.recover(location)
        switch.switch(location, before, tip, branch, state, "apply foo@1.0", changes=changes)

`switch` stages every new file, the new index and the new state beside the work tree, then writes `journal.json`. A
run that is killed before that has changed nothing: the next `recover` removes what it staged. A run that is killed
later has decided: the next `recover` carries the journal out to its end. A step that the system refuses (a file that
cannot be replaced) takes all steps before it back.
"""
