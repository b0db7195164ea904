"""a send in one statement on PostgreSQL

Revision ID: 0005
Revises: 0004

A later release that needs another function creates it under another name: during an upgrade both are called.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# Each statement of a volatile function has a snapshot of its own, so those after the lock see what was committed before
# it was obtained. A send that is refused leaves nothing. ``to_id`` or ``to_key`` is NULL, and so may be the limit.
SEND = """
CREATE FUNCTION send_message(
    from_id bigint, to_id bigint, to_key text, body_text text, program_key text, nonce text,
    subject_of_limit text, times integer, period bigint,
    OUT outcome text, OUT recipient bigint, OUT name text, OUT ticked bigint, OUT ticked_before bigint,
    OUT unread integer, OUT wait bigint
) LANGUAGE plpgsql AS $$
DECLARE
    key text := program_key;
    added bigint;
    moment bigint;
BEGIN
    SELECT id, username INTO recipient, name FROM "user" WHERE id = to_id OR username_key = to_key;
    SELECT clock INTO ticked_before FROM mailbox WHERE user_id = recipient FOR UPDATE;
    IF NOT FOUND THEN
        outcome := 'unknown';
        RETURN;
    END IF;
    moment := extract(epoch FROM clock_timestamp()) * 1000000;
    ticked := greatest(ticked_before + 1, moment);
    IF key IS NULL AND nonce IS NOT NULL THEN
        key := encode(sha256(
            convert_to(recipient::text, 'UTF8') || '\\x00' || convert_to(nonce, 'UTF8') || '\\x00'
            || convert_to(body_text, 'UTF8')), 'hex');
    END IF;

    INSERT INTO message (sender_id, recipient_id, body, timestamp, created, read, idempotency_key)
    SELECT from_id, id, body_text, ticked, moment, id = from_id, key FROM "user" WHERE id = recipient AND NOT disabled
    ON CONFLICT (sender_id, idempotency_key) DO NOTHING RETURNING id INTO added;
    IF added IS NULL THEN
        SELECT CASE WHEN recipient_id = recipient AND body = body_text THEN 'already_sent' ELSE 'key_reused' END
        INTO outcome FROM message WHERE sender_id = from_id AND idempotency_key = key;
        outcome := coalesce(outcome, 'disabled');
        RETURN;
    END IF;

    IF times IS NOT NULL THEN
        PERFORM pg_advisory_xact_lock(hashtextextended(subject_of_limit, 0));
        moment := extract(epoch FROM clock_timestamp()) * 1000000;
        INSERT INTO attempt (subject, expires)
        SELECT subject_of_limit, moment + period WHERE times > (
            SELECT count(*) FROM attempt
            WHERE subject = subject_of_limit AND expires > moment AND expires <= moment + period);
        IF NOT FOUND THEN
            SELECT expires - moment INTO wait FROM attempt
            WHERE subject = subject_of_limit AND expires > moment AND expires <= moment + period
            ORDER BY expires DESC OFFSET times - 1 LIMIT 1;
            DELETE FROM message WHERE id = added;
            outcome := 'over_limit';
            RETURN;
        END IF;
    END IF;

    UPDATE mailbox SET clock = ticked, clock_before = ticked_before,
        unread_message_count = unread_message_count + (recipient <> from_id)::integer
    WHERE user_id = recipient RETURNING unread_message_count INTO unread;
    INSERT INTO notification (user_id, name, timestamp, payload_json)
    VALUES (recipient, 'unread_message_count', ticked, unread::text)
    ON CONFLICT ON CONSTRAINT pk_notification
    DO UPDATE SET timestamp = excluded.timestamp, payload_json = excluded.payload_json;
    outcome := 'sent';
END
$$
"""


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(SEND)


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION send_message")
