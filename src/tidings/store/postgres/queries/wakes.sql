-- name: wake_others
-- Delivered when the batch commits, and only then. A notifying commit takes a lock of the whole
-- server, so this is in a batch once, and only in batches that others may wait for.
select pg_notify(:channel::text, payload) from unnest(:payloads::text[]) as w (payload);
