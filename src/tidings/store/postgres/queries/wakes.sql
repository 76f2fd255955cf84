-- name: wake_others
-- Delivered only when the batch commits. A commit that notifies takes a lock of the whole server. So there is at most
-- one of these in a batch, and only in batches that others may wait for.
select pg_notify(:channel::text, payload) from unnest(:payloads::text[]) as w (payload);
