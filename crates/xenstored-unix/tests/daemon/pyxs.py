# Run by the test `pyxs_reads_writes_watches_and_commits`: what a Python program does with a xenstored.
import threading

import pyxs

print("pyxs", getattr(pyxs, "__version__", "from Debian"), pyxs.__file__)

with pyxs.Client() as client:
    # Values, lists, permissions.
    client.write(b"/pyxs/value", b"hello")
    assert client.read(b"/pyxs/value") == b"hello"
    assert client[b"/pyxs/value"] == b"hello"
    assert client.exists(b"/pyxs/value") and not client.exists(b"/pyxs/nothing")
    client.mkdir(b"/pyxs/folder")
    assert client.list(b"/pyxs") == [b"value", b"folder"]
    client.set_perms(b"/pyxs/value", [b"r0"])
    assert client.get_perms(b"/pyxs/value") == [b"r0"]
    try:
        client.read(b"/pyxs/nothing")
    except pyxs.PyXSError as error:
        assert error.args[0] == 2, error
    else:
        raise AssertionError("it read what is not there")
    assert client.get_domain_path(0) == b"/local/domain/0"
    assert client.is_domain_introduced(7) is False

    # A transaction that is rolled back leaves nothing, one that is committed everything.
    client.transaction()
    client.write(b"/pyxs/rolled-back", b"x")
    client.rollback()
    assert not client.exists(b"/pyxs/rolled-back")
    client.transaction()
    client.write(b"/pyxs/committed", b"x")
    assert client.commit()
    assert client.exists(b"/pyxs/committed")
    client.delete(b"/pyxs/committed")
    assert not client.exists(b"/pyxs/committed")

    # A transaction that another writes into is not committed.
    with pyxs.Client() as other:
        client.transaction()
        client.read(b"/pyxs/value")
        other.write(b"/pyxs/value", b"changed")
        client.write(b"/pyxs/mine", b"x")
        assert not client.commit()
    assert not client.exists(b"/pyxs/mine")
    client.write(b"/pyxs/counter", b"0")


def count(times):
    with pyxs.Client() as client:
        for _ in range(times):
            while True:
                client.transaction()
                value = int(client.read(b"/pyxs/counter"))
                client.write(b"/pyxs/counter", b"%d" % (value + 1))
                if client.commit():
                    break


counters = [threading.Thread(target=count, args=(10,)) for _ in range(4)]
for counter in counters:
    counter.start()
for counter in counters:
    counter.join()

# Watches: the first event, a change below, a token for each of two.
with pyxs.Client() as client:
    monitor = client.monitor()
    monitor.watch(b"/pyxs/watched", b"one")
    assert tuple(next(monitor.wait())) == (b"/pyxs/watched", b"one")
    client.write(b"/pyxs/watched/below", b"x")
    seen = [tuple(next(monitor.wait())) for _ in range(1)]
    assert seen == [(b"/pyxs/watched/below", b"one")], seen
    monitor.unwatch(b"/pyxs/watched", b"one")
    client.write(b"/pyxs/watched/below", b"y")
    monitor.watch(b"/pyxs/other", b"two")
    assert tuple(next(monitor.wait())) == (b"/pyxs/other", b"two")

print("all done")
