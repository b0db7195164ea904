"""Every time-out and pause that is not a setting, in seconds.

One frozen value, created with the services and handed down; tests pass their own.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Timeouts:
    """Seconds. The defaults are what operators get."""

    # The database (storage/)
    database_silence: float = 1.2  # a database that answers no caller for so long is unavailable
    silence_check: float = 0.05  # between two checks of that
    silence_pause: float = 0.3  # a check that is later than this: the process itself was stopped
    sqlite_busy: float = 1.0  # for another process to release SQLite's write lock
    readiness: float = 2.0  # for the query of /readyz
    write_probe: float = 1.0  # a write this recent shows that SQLite takes writes
    clock_difference: float = 5.0  # between the host's clock and the database's, from which on it is reported
    postgres_connect: float = 1.2
    postgres_lock: float = 0.8  # for another transaction to release a row
    postgres_close: float = 0.3  # for an orderly close of a connection
    postgres_idle: float = 10.0  # a pooled connection that was idle for longer is tested before use
    postgres_test: float = 0.5  # for the answer to that
    keep_alive_idle: int = 30  # TCP keep-alives of connections to the database and to Redis: until the first
    keep_alive_interval: int = 10  # between two; the third unanswered one ends the connection
    refused_pause: float = 0.3  # after a refused connection, before the next attempt
    database_recovered: float = 2.0  # without a failure for so long, an outage has ended
    session_use: float = 0.1  # a request waits this long for its session's last use to be stored

    # Accounts (accounts/)
    sign_in_wait: float = 3.0  # for room in an address's allowance, which successful sign-ins make
    sign_in_delay: float = 1.0  # of each sign-in while the whole site is over its limit

    # Mail (mail.py)
    mail_pause: float = 0.2  # before work that depends on an account begins, so that no response takes longer for it
    mail_send: float = 30.0  # for one attempt
    mail_retry: float = 5.0  # before the second attempt; four times as long before the third
    mail_on_close: float = 3.0  # for mails that are still sent when the process ends

    # The feed
    feed_retry_min: float = 0.5  # between two attempts to read while the database is unavailable
    feed_retry_max: float = 2.0
    bus_restart: float = 1.0  # after an unexpected error of a bus

    # Background tasks (app.py)
    cleanup: float = 60.0  # between two deletions of expired rows
    measure: float = 1.0  # between two updates of gauges
    bus_start: float = 2.5  # a starting process waits this long for its bus; longer than its first attempt takes

    # Webhooks (webhooks/)
    webhook_check: float = 2.0  # between two searches for untold notifications; a tenth of the delay if that is less
    webhook_post: float = 10.0  # for the whole POST
    webhook_lease: float = 30.0  # after which the POST of a process that ended is repeated
    webhook_retry_min: float = 5.0  # doubling up to the maximum, less up to a half at random
    webhook_retry_max: float = 900.0
    webhook_give_up: float = 86_400.0  # after the first failed POST

    # The buses (bus/)
    heartbeat_interval: float = 2.0
    heartbeat_lost: float = 10.0  # without a heartbeat for so long, a bus connects again
    broker_answer: float = 2.0
    broker_retry_min: float = 0.1  # doubling up to the maximum
    broker_retry_max: float = 2.0
    publish_on_close: float = 0.5  # for signals that are still queued when the process ends
    subscribe: float = 0.1  # a new subscriber waits this long for its channel
    unsubscribe_delay: float = 5.0  # a channel is kept this long after its last subscriber
    sqlite_poll: float = 0.03  # between two checks of SQLite's data_version

    # The server (server/)
    request_head: float = 6.0  # from a request's first byte to the end of its head
    request_body: float = 12.0
    send: float = 10.0  # for a client to take what it was sent
    half_closed: float = 2.0  # for the response to a client that closed its side after its request
    linger: float = 0.5  # for a client to close after we did
    websocket_silence: float = 25.0  # before a ping is sent; longer than a heartbeat
    websocket_pong: float = 15.0  # for the answer to that ping
    drain_close: float = 5.0  # for tabs that were asked to close
    drain_scatter: float = 2.0  # random extra, so that tabs do not return together
    worker_restart: float = 1.0  # between two starts of one worker; doubled each time that it soon ended
    worker_restart_max: float = 30.0
    worker_short_life: float = 3.0  # a worker that ended earlier than this ended soon
    worker_check: float = 1.0  # between two checks that every worker's event loop runs
    worker_stalled: float = 10.0  # a worker whose event loop has not run for so long is replaced
    worker_start: float = 60.0  # the same for a worker that starts
    accept_turn: float = 0.0005  # a worker with more connections than others leaves a new one to them for so long
