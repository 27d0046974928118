-- The reference schema of the source: what an ingestion pipeline writes and Tracelift reads. Names of database and tables are settings.
-- Ingestion is asynchronous: a row can be there twice until a merge (read with FINAL), late, and withdrawn (is_deleted = 1).

-- One trace row (a span) per id, in its newest version.
CREATE TABLE IF NOT EXISTS runs
(
    id                   UUID,
    tenant_id            UUID,
    session_id           UUID,                          -- the project
    trace_id             UUID,
    parent_run_id        Nullable(UUID),
    reference_example_id Nullable(UUID),
    reference_dataset_id Nullable(UUID),
    name                 String,
    run_type             LowCardinality(String),        -- tool, chain, llm, retriever, embedding, prompt, parser
    start_time           DateTime64(6, 'UTC'),
    end_time             Nullable(DateTime64(6, 'UTC')),
    status               LowCardinality(String),
    is_root              Bool,
    dotted_order         String,                        -- the path from the root, ids included
    tags                 Array(String),

    -- Payloads: JSON text (error is plain), inline when small, else empty and pointed at below.
    inputs               String,
    outputs              String,
    error                String,
    extra                String,
    events               String,

    -- Pointers: JSON maps from field to object key.
    inputs_s3_urls       String,
    outputs_s3_urls      String,
    s3_urls              String,                        -- error, extra, events, serialized, attachment.<name>
    manifest_id          Nullable(UUID),
    manifest_s3_id       Nullable(UUID),

    prompt_tokens        UInt64,
    completion_tokens    UInt64,
    total_tokens         UInt64,
    prompt_cost          Nullable(Decimal(18, 12)),
    completion_cost      Nullable(Decimal(18, 12)),
    total_cost           Nullable(Decimal(18, 12)),
    first_token_time     Nullable(DateTime64(6, 'UTC')),
    feedback_stats       String,
    trace_tier           LowCardinality(String),        -- longlived, shortlived
    in_dataset           Bool,
    serialized           String,
    price_model_id       Nullable(UUID),
    app_path             String,
    last_queued_at       Nullable(DateTime64(6, 'UTC')),
    share_token          Nullable(UUID),
    inserted_at          DateTime64(6, 'UTC'),
    modified_at          DateTime64(6, 'UTC'),          -- the version: the newest wins
    is_deleted           UInt8
)
ENGINE = ReplacingMergeTree(modified_at, is_deleted)
PARTITION BY toYYYYMM(start_time)
ORDER BY (tenant_id, session_id, start_time, id);

-- Feedback on trace rows, many per row. start_time is that of the trace row.
CREATE TABLE IF NOT EXISTS feedbacks
(
    id              UUID,
    run_id          UUID,
    session_id      UUID,
    tenant_id       UUID,
    trace_id        UUID,
    is_root         Bool,
    start_time      DateTime64(6, 'UTC'),
    created_at      DateTime64(6, 'UTC'),
    modified_at     DateTime64(6, 'UTC'),
    key             String,
    score           Nullable(Float64),
    value           String,
    comment         String,
    correction      String,
    feedback_source String,                             -- JSON: type, metadata, user_id
    is_deleted      UInt8
)
ENGINE = ReplacingMergeTree(modified_at, is_deleted)
PARTITION BY toYYYYMM(start_time)
ORDER BY (tenant_id, session_id, start_time, id);
