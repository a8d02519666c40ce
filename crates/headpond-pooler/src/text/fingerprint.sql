SELECT pg_catalog.concat_ws(' ', count(*), pg_catalog.sum(pg_catalog.hashtextextended(fact, 0)))
FROM (
    SELECT pg_catalog.concat_ws(' ', tableoid, oid, xmin) FROM pg_catalog.pg_proc WHERE oid >= 16384
    UNION ALL SELECT pg_catalog.concat_ws(' ', tableoid, oid, xmin) FROM pg_catalog.pg_rewrite WHERE oid >= 16384
    UNION ALL SELECT pg_catalog.concat_ws(' ', tableoid, oid, xmin) FROM pg_catalog.pg_policy
    UNION ALL SELECT pg_catalog.concat_ws(' ', tableoid, oid, xmin) FROM pg_catalog.pg_operator WHERE oid >= 16384
    UNION ALL SELECT pg_catalog.concat_ws(' ', tableoid, oid, xmin) FROM pg_catalog.pg_cast WHERE oid >= 16384
    UNION ALL SELECT pg_catalog.concat_ws(' ', tableoid, oid, xmin) FROM pg_catalog.pg_language WHERE oid >= 16384
    UNION ALL SELECT pg_catalog.concat_ws(' ', tableoid, oid, xmin) FROM pg_catalog.pg_extension
    UNION ALL SELECT pg_catalog.concat_ws(' ', tableoid, oid, xmin) FROM pg_catalog.pg_event_trigger
    UNION ALL SELECT pg_catalog.concat_ws(' ', tableoid, oid, xmin) FROM pg_catalog.pg_foreign_server
    UNION ALL SELECT pg_catalog.concat_ws(' ', tableoid, oid, xmin) FROM pg_catalog.pg_conversion WHERE oid >= 16384
    UNION ALL SELECT pg_catalog.concat_ws(' ', tableoid, oid, xmin) FROM pg_catalog.pg_ts_template WHERE oid >= 16384
    UNION ALL SELECT pg_catalog.concat_ws(' ', tableoid, oid, xmin) FROM pg_catalog.pg_ts_parser WHERE oid >= 16384
    UNION ALL SELECT pg_catalog.concat_ws(' ', inhrelid, inhparent) FROM pg_catalog.pg_inherits
    UNION ALL SELECT pg_catalog.concat_ws(' ', tableoid, oid, typname) FROM pg_catalog.pg_type
    WHERE oid >= 16384 AND typrelid = 0 AND typcategory <> 'A'
    -- What belongs to tables comes and goes with temporary ones, and their other columns change with their contents.
    UNION ALL SELECT pg_catalog.concat_ws(' ', c.oid, c.relname, t.kind, t.oid, t.version)
    FROM pg_catalog.pg_class AS c LEFT JOIN (
        SELECT 't' AS kind, tgrelid AS relation, oid, xmin AS version FROM pg_catalog.pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT 'd', adrelid, oid, xmin FROM pg_catalog.pg_attrdef
        UNION ALL SELECT 'c', conrelid, oid, xmin FROM pg_catalog.pg_constraint WHERE contype IN ('c', 'f')
    ) AS t ON t.relation = c.oid
    WHERE c.oid >= 16384 AND c.relpersistence <> 't' AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    UNION ALL SELECT pg_catalog.concat_ws(' ', tableoid, oid, xmin) FROM pg_catalog.pg_constraint
    WHERE contype = 'c' AND contypid <> 0
) AS facts(fact)
