-- Since when a plugin's handler fails with everything it is given, and with what.

alter table core.subscription add column suspended_at timestamptz, add column suspended_for text;
