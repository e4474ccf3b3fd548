-- The tables of scripts/pipeline, for ClickHouse. For the script, a statement ends with a
-- semicolon at the end of a line.

CREATE DATABASE analytics;

-- One row for each event. Its duplicates have the same key, and merges keep one of them.
CREATE TABLE analytics.events (
    pseudonym String,
    time DateTime64(9, 'UTC'),
    uid UUID,
    event LowCardinality(String),
    service LowCardinality(String),
    version LowCardinality(String),
    attributes Map(LowCardinality(String), String)
) ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(time)
PRIMARY KEY (pseudonym, time)
ORDER BY (pseudonym, time, uid)
TTL toDateTime(time) + INTERVAL 13 MONTH
SETTINGS ttl_only_drop_parts = 1, old_parts_lifetime = 0;

-- The digest of each erased pseudonym, so that no copy of its events is stored again.
CREATE TABLE analytics.erased (digest FixedString(32), events UInt64, time DateTime DEFAULT now())
ENGINE = MergeTree ORDER BY digest;

-- How far each partition was read.
CREATE TABLE analytics.progress (partition Int32, next Int64)
ENGINE = MergeTree ORDER BY partition;

-- How many records each insert had, for the counts of `query`.
CREATE TABLE analytics.received (records UInt64, refused UInt64, of_erased UInt64)
ENGINE = MergeTree ORDER BY ();

-- Rows of the next two tables go through their views, and are not stored. With a server, the
-- first is a table of the engine Kafka.
CREATE TABLE analytics.messages (message String) ENGINE = Null;

CREATE TABLE analytics.records AS analytics.events ENGINE = Null;

-- Makes a map from OTLP's attributes, each of which has its value in the member of its type.
CREATE FUNCTION otlp_map AS attributes -> mapFromArrays(
    tupleElement(attributes, 'key'),
    arrayMap(value -> arrayStringConcat([value.1, value.2, value.3, value.4]),
             tupleElement(attributes, 'value')));

CREATE MATERIALIZED VIEW analytics.messages_to_records TO analytics.records AS
WITH
    -- This collector writes only the array; newer ones write the object that contains it.
    if(startsWith(message, '['), concat('{"resourceLogs":', message, '}'), message) AS logs,
    otlp_map(resource) AS of_resource,
    otlp_map(record.attributes) AS of_record
SELECT
    of_record['enduser.pseudo.id'] AS pseudonym,
    fromUnixTimestamp64Nano(toInt64OrZero(record.timeUnixNano), 'UTC') AS time,
    toUUIDOrZero(of_record['log.record.uid']) AS uid,
    record.eventName AS event,
    of_resource['service.name'] AS service,
    of_resource['service.version'] AS version,
    mapFilter((key, value) -> key NOT IN ('enduser.pseudo.id', 'log.record.uid'),
              of_record) AS attributes
FROM (
    SELECT resource, arrayJoin(records) AS record
    FROM (
        SELECT
            arrayJoin(JSONExtract(logs, 'resourceLogs', 'Array(Tuple(
                resource Tuple(
                    attributes Array(Tuple(key String, value Tuple(
                        stringValue String, intValue String,
                        boolValue String, doubleValue String)))),
                scopeLogs Array(Tuple(logRecords Array(Tuple(
                    timeUnixNano String,
                    eventName String,
                    attributes Array(Tuple(key String, value Tuple(
                        stringValue String, intValue String,
                        boolValue String, doubleValue String)))))))))'
            )) AS entry,
            entry.resource.attributes AS resource,
            arrayFlatten(entry.scopeLogs.logRecords) AS records
        FROM analytics.messages
    )
);

-- Without a UUID, duplicates cannot be told from events. With any time, a client could make any
-- number of partitions.
CREATE FUNCTION is_usable AS (uid, time) ->
    uid != toUUIDOrZero('')
    AND time BETWEEN now() - INTERVAL 13 MONTH AND now() + INTERVAL 1 DAY;

CREATE MATERIALIZED VIEW analytics.records_to_events TO analytics.events AS
SELECT * FROM analytics.records
WHERE is_usable(uid, time) AND SHA256(pseudonym) NOT IN (SELECT digest FROM analytics.erased);

CREATE MATERIALIZED VIEW analytics.records_to_received TO analytics.received AS
SELECT
    count() AS records,
    countIf(NOT is_usable(uid, time)) AS refused,
    countIf(is_usable(uid, time)
        AND SHA256(pseudonym) IN (SELECT digest FROM analytics.erased)) AS of_erased
FROM analytics.records;
