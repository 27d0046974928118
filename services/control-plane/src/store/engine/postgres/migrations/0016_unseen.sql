-- Tasks without a window, tenant by tenant: a tenant may have few of them at work.
CREATE INDEX unseen_waiting ON runs (tenant_id, state_at) WHERE state = 'queued' AND window_start IS NULL;
CREATE INDEX unseen_at_work ON runs (tenant_id, kind) WHERE state = 'leased' AND window_start IS NULL;
