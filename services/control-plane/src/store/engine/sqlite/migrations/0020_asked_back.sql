-- When the holder of a lease was asked to hand its task back, because another tenant had nothing at work.
ALTER TABLE runs ADD COLUMN asked_back INTEGER;
