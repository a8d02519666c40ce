WITH RECURSIVE
-- What is built in and has effects: its name, and what it does.
built_in(name, effect) AS (VALUES {built_in}),
-- What statements in the text of a function do.
statement(word, effect) AS (VALUES ('create', 'TD'), ('drop', 'TD'), ('alter', 'DQ'), ('import', 'D'), ('insert', 'Q'), ('merge', 'Q'),
    ('copy', 'Q'), ('call', 'Q'), ('execute', '*'), ('listen', 'N'), ('unlisten', 'N'), ('hold', 'C'), ('load', 'B'),
    ('prepare', 'P'), ('deallocate', 'X'), ('discard', 'T')),
-- Extensions whose functions leave nothing behind in their session, as far as they are not written in SQL.
harmless(name) AS (VALUES {harmless}),
-- Functions that do not come with PostgreSQL itself.
own AS (
    SELECT p.oid, p.proname, p.prokind, l.lanname, pg_catalog.lower(p.prosrc COLLATE "C") AS source, p.proargdefaults,
        pg_catalog.to_jsonb(p) ->> 'prosqlbody' AS body, e.extname
    FROM pg_catalog.pg_proc AS p
    JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang
    JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
    LEFT JOIN pg_catalog.pg_depend AS d ON d.classid = 'pg_catalog.pg_proc'::regclass AND d.objid = p.oid
        AND d.deptype = 'e'
    LEFT JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid
    WHERE p.oid >= 16384 OR n.nspname NOT IN ('pg_catalog', 'information_schema')
),
-- Every word of their texts; a dollar may be of a name or of a quote.
word AS (
    SELECT DISTINCT own.oid, w.word
    FROM own, (VALUES (true, $r$[\x01-\x2f\x3a-\x40\x5b-\x5e\x60\x7b-\x7f]+$r$),
            (false, $r$[\x01-\x23\x25-\x2f\x3a-\x40\x5b-\x5e\x60\x7b-\x7f]+$r$)) AS s(of_all, separators),
        pg_catalog.unnest(pg_catalog.string_to_array(
            pg_catalog.regexp_replace(own.source, s.separators, ' ', 'g'), ' ')) AS w(word)
    WHERE own.lanname IN ('sql', 'plpgsql') AND (s.of_all OR own.source LIKE '%$%')
),
-- How an expression tree calls each of what is built in.
call AS (
    SELECT b.effect, '[^l]:(funcid|opfuncid|aggfnoid) (' || pg_catalog.string_agg(p.oid::text, '|') || ') ' AS pattern
    FROM built_in AS b JOIN pg_catalog.pg_proc AS p ON p.proname = b.name AND p.oid < 16384
    GROUP BY b.effect
),
call_of_any AS (
    SELECT '[^l]:(funcid|opfuncid|aggfnoid) (' || pg_catalog.string_agg(p.oid::text, '|') || ') ' AS pattern
    FROM built_in AS b JOIN pg_catalog.pg_proc AS p ON p.proname = b.name AND p.oid < 16384
),
tree_of_any AS (
    SELECT tableoid, oid, ev_action::text AS tree FROM pg_catalog.pg_rewrite WHERE oid >= 16384
    UNION ALL SELECT tableoid, oid, ev_qual::text FROM pg_catalog.pg_rewrite WHERE oid >= 16384
    UNION ALL SELECT tableoid, oid, adbin::text FROM pg_catalog.pg_attrdef WHERE oid >= 16384
    UNION ALL SELECT tableoid, oid, polqual::text FROM pg_catalog.pg_policy
    UNION ALL SELECT tableoid, oid, polwithcheck::text FROM pg_catalog.pg_policy
    UNION ALL SELECT tableoid, oid, conbin::text FROM pg_catalog.pg_constraint WHERE oid >= 16384
    UNION ALL SELECT tableoid, oid, tgqual::text FROM pg_catalog.pg_trigger
    UNION ALL SELECT tableoid, oid, typdefaultbin::text FROM pg_catalog.pg_type WHERE oid >= 16384
    UNION ALL SELECT 'pg_catalog.pg_class'::regclass, indexrelid, indexprs::text FROM pg_catalog.pg_index
        WHERE indexrelid >= 16384
    UNION ALL SELECT 'pg_catalog.pg_class'::regclass, indexrelid, indpred::text FROM pg_catalog.pg_index
        WHERE indexrelid >= 16384
    UNION ALL SELECT 'pg_catalog.pg_proc'::regclass, oid, body FROM own
    UNION ALL SELECT 'pg_catalog.pg_proc'::regclass, oid, proargdefaults::text FROM own
),
-- Few of them call any of that: the others are looked at once.
tree AS MATERIALIZED (
    SELECT t.* FROM tree_of_any AS t, call_of_any AS c WHERE t.tree ~ c.pattern OR t.tree LIKE '%:commandType 3 %'
),
-- What has effects by itself.
seed(class, object, effect) AS (
    SELECT 'pg_catalog.pg_proc'::regclass::oid, oid, '*' FROM own
    WHERE prokind <> 'a' AND (lanname NOT IN ('sql', 'plpgsql', 'internal', 'c') OR source LIKE '%u&"%'
        OR lanname = 'c' AND (COALESCE(extname, '') NOT IN (SELECT name FROM harmless)
            OR proname IN ({not_harmless})))
    UNION SELECT 'pg_catalog.pg_proc'::regclass, own.oid, b.effect
    FROM own JOIN pg_catalog.pg_proc AS p ON pg_catalog.lower(p.prosrc COLLATE "C") = own.source AND p.oid < 16384
        JOIN built_in AS b ON b.name = p.proname
    WHERE own.lanname = 'internal' AND own.prokind <> 'a'
    UNION SELECT 'pg_catalog.pg_proc'::regclass, word.oid, statement.effect FROM word JOIN statement USING (word)
    UNION SELECT 'pg_catalog.pg_proc'::regclass, word.oid, b.effect FROM word JOIN built_in AS b ON b.name = word.word
    WHERE b.name <> 'set_config'
    UNION SELECT 'pg_catalog.pg_proc'::regclass, a.oid, 'O' FROM word AS a JOIN word AS b USING (oid)
    WHERE a.word = 'pg_settings' AND b.word = 'update'
    UNION SELECT 'pg_catalog.pg_proc'::regclass, a.oid, 'Z' FROM word AS a JOIN word AS b USING (oid)
    WHERE a.word IN ('create', 'alter') AND b.word IN ('function', 'procedure', 'extension', 'language')
    -- set_config, unless every call is for the transaction only.
    UNION SELECT 'pg_catalog.pg_proc'::regclass, oid, 'O' FROM own
    WHERE lanname IN ('sql', 'plpgsql') AND source LIKE '%set_config%'
        AND (SELECT pg_catalog.count(*) FROM pg_catalog.regexp_matches(source, 'set_config', 'g'))
            > (SELECT pg_catalog.count(*) FROM pg_catalog.regexp_matches(source,
                $r$set_config\s*\(\s*'[^']*'\s*,[^;()]*(\([^()]*\)[^;()]*)*,\s*true\s*\)$r$, 'g'))
    UNION SELECT 'pg_catalog.pg_proc'::regclass, oid, 'S' FROM own
    WHERE lanname IN ('sql', 'plpgsql') AND source ~ $r$set_config\s*\(\s*'seed'$r$
    -- SET and RESET where a statement may begin.
    UNION SELECT 'pg_catalog.pg_proc'::regclass, oid, 'O' FROM own
    WHERE lanname IN ('sql', 'plpgsql') AND source ~ ($r$(^|;|\*/|>>|--[^\n]*\n|\m(begin|then|else|loop)\M)\s*$r$
        || $r$(reset\M|set\M(?!\s+(local|constraints|transaction)\s+["a-z_]))$r$)
    -- SELECT INTO makes a table, perhaps a temporary one.
    UNION SELECT 'pg_catalog.pg_proc'::regclass, oid, 'T' FROM own
    WHERE lanname = 'sql' AND pg_catalog.regexp_replace(source, $r$\m(insert|merge)\s+into\M$r$, '', 'g') ~ $r$\minto\M$r$
    UNION SELECT tree.tableoid, tree.oid, call.effect FROM tree JOIN call ON tree.tree ~ call.pattern
    WHERE call.effect <> 'Q' OR tree.tableoid <> 'pg_catalog.pg_attrdef'::regclass
    UNION SELECT tableoid, oid, 'Q' FROM tree
    WHERE tableoid IN ('pg_catalog.pg_rewrite'::regclass, 'pg_catalog.pg_proc'::regclass) AND tree LIKE '%:commandType 3 %'
    UNION SELECT 'pg_catalog.pg_proc'::regclass, a.aggfnoid, b.effect
    FROM pg_catalog.pg_aggregate AS a JOIN pg_catalog.pg_proc AS p
        ON p.oid IN (a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)
        JOIN built_in AS b ON b.name = p.proname AND p.oid < 16384
    UNION SELECT o.tableoid, o.oid, b.effect
    FROM pg_catalog.pg_operator AS o JOIN pg_catalog.pg_proc AS p ON p.oid = o.oprcode AND p.oid < 16384
        JOIN built_in AS b ON b.name = p.proname
    -- Views of what can be updated with effects, or shows them.
    UNION SELECT d.classid, d.objid, CASE c.relname WHEN 'pg_settings' THEN 'O' ELSE 'E' END
    FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_class AS c ON c.oid = d.refobjid
    WHERE d.refclassid = 'pg_catalog.pg_class'::regclass AND d.objid >= 16384
        AND c.oid IN ('pg_catalog.pg_settings'::regclass, 'pg_catalog.pg_prepared_statements'::regclass)
    -- A foreign key that sets defaults.
    UNION SELECT 'pg_catalog.pg_class'::regclass, confrelid, 'Q' FROM pg_catalog.pg_constraint
    WHERE contype = 'f' AND 'd' IN (confdeltype, confupdtype)
),
-- What can be mentioned.
named(class, object, name) AS (
    SELECT 'pg_catalog.pg_proc'::regclass::oid, oid, proname FROM own
    UNION ALL SELECT 'pg_catalog.pg_class'::regclass, oid, relname FROM pg_catalog.pg_class
    WHERE oid >= 16384 AND relkind IN ('r', 'p', 'v', 'm', 'f')
    UNION ALL SELECT 'pg_catalog.pg_type'::regclass, oid, typname FROM pg_catalog.pg_type
    WHERE oid >= 16384 AND typrelid = 0 AND typcategory <> 'A'
    -- Event triggers are called by statements that begin so.
    UNION ALL SELECT e.tableoid, e.oid, s.word
    FROM pg_catalog.pg_event_trigger AS e, (VALUES ('create'), ('alter'), ('drop'), ('comment'), ('grant'), ('revoke'),
        ('security'), ('import'), ('into'), ('refresh'), ('reindex'), ('reassign')) AS s(word)
    WHERE e.evtevent <> 'login'
),
-- Who has effects if another has.
edge(class, object, to_class, to_object) AS (
    SELECT refclassid, refobjid, classid, objid FROM pg_catalog.pg_depend
    WHERE deptype <> 'e' AND objid >= 16384 AND refobjid >= 16384 AND NOT (
        refclassid = 'pg_catalog.pg_class'::regclass AND classid IN ('pg_catalog.pg_class'::regclass,
            'pg_catalog.pg_type'::regclass, 'pg_catalog.pg_constraint'::regclass, 'pg_catalog.pg_trigger'::regclass))
    UNION ALL SELECT n.class, n.object, 'pg_catalog.pg_proc'::regclass, w.oid
    FROM word AS w JOIN named AS n ON pg_catalog.lower(n.name::text COLLATE "C") = w.word
    UNION ALL SELECT tableoid, oid, 'pg_catalog.pg_class'::regclass, ev_class FROM pg_catalog.pg_rewrite
    UNION ALL SELECT tableoid, oid, 'pg_catalog.pg_class'::regclass, tgrelid FROM pg_catalog.pg_trigger
    UNION ALL SELECT tableoid, oid, 'pg_catalog.pg_class'::regclass, adrelid FROM pg_catalog.pg_attrdef
    UNION ALL SELECT tableoid, oid, 'pg_catalog.pg_class'::regclass, polrelid FROM pg_catalog.pg_policy
    UNION ALL SELECT tableoid, oid, 'pg_catalog.pg_class'::regclass, conrelid FROM pg_catalog.pg_constraint
    UNION ALL SELECT tableoid, oid, 'pg_catalog.pg_type'::regclass, contypid FROM pg_catalog.pg_constraint
    UNION ALL SELECT 'pg_catalog.pg_class'::regclass, indexrelid, 'pg_catalog.pg_class'::regclass, indrelid
    FROM pg_catalog.pg_index
    -- What happens to a row may happen to those that refer to it, and to a part of its table.
    UNION ALL SELECT 'pg_catalog.pg_class'::regclass, conrelid, 'pg_catalog.pg_class'::regclass, confrelid
    FROM pg_catalog.pg_constraint WHERE contype = 'f' AND NOT (confdeltype IN ('a', 'r') AND confupdtype IN ('a', 'r'))
    UNION ALL SELECT 'pg_catalog.pg_class'::regclass, inhrelid, 'pg_catalog.pg_class'::regclass, inhparent
    FROM pg_catalog.pg_inherits
    UNION ALL SELECT tableoid, oid, 'pg_catalog.pg_type'::regclass, t.type
    FROM pg_catalog.pg_operator, pg_catalog.unnest(ARRAY[oprleft, oprright, oprresult]) AS t(type) WHERE t.type >= 16384
    UNION ALL SELECT tableoid, oid, 'pg_catalog.pg_type'::regclass, t.type
    FROM pg_catalog.pg_cast, pg_catalog.unnest(ARRAY[castsource, casttarget]) AS t(type) WHERE t.type >= 16384
),
hot(class, object, effect) AS (
    SELECT class, object, effect FROM seed
    UNION SELECT e.to_class, e.to_object, h.effect FROM hot AS h JOIN edge AS e USING (class, object)
),
-- What is used without its name being mentioned.
everything AS (
    SELECT effect FROM hot WHERE class IN ('pg_catalog.pg_ts_template'::regclass,
        'pg_catalog.pg_ts_parser'::regclass, 'pg_catalog.pg_conversion'::regclass)
    UNION SELECT h.effect FROM hot AS h JOIN pg_catalog.pg_operator AS o ON h.class = o.tableoid AND h.object = o.oid
    WHERE o.oprleft < 16384 AND o.oprright < 16384 AND o.oprresult < 16384
    UNION SELECT h.effect FROM hot AS h JOIN pg_catalog.pg_cast AS c ON h.class = c.tableoid AND h.object = c.oid
    WHERE c.castsource < 16384 AND c.casttarget < 16384
)
SELECT '' AS name, false AS is_odd, pg_catalog.string_agg(effect, '') AS effects FROM everything
UNION ALL (
    SELECT pg_catalog.regexp_replace(n.name, $r$[^\x01-\x7f]$r$, '?', 'g'), n.name ~ $r$[^\x01-\x7f]$r$,
        pg_catalog.string_agg(DISTINCT h.effect, '')
    FROM hot AS h JOIN named AS n USING (class, object) GROUP BY n.name LIMIT {limit}
)
