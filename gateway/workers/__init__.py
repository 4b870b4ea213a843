"""Several processes that serve on the same sockets. The only room that knows `gunicorn`.

gunicorn's arbiter is the parent: it starts workers, replaces those that die or are stuck, and ends them. Each worker
serves as a process alone does, with `serve.serve`. The parent has no event loop and no thread, so it can fork at any
time. Its own way with four things replaces gunicorn's:

    SIGHUP       it checks the configuration, and then each worker reads it; no worker is replaced
    SIGTERM      workers drain for `server.drain_seconds`; a second signal ends them. A terminal and some managers send
                 a signal to all processes, so a worker counts only those of its parent: SIGTERM to drain, however
                 often, and SIGQUIT to end
    systemd      hears from the parent, once all workers serve, or have read the configuration
    the log      each process writes its own lines to the same descriptor

A worker tells its parent through a pipe that it serves or has reloaded, and wakes it with SIGUSR1.
"""
