package main

import (
	"fmt"
	"net/url"

	"laaster/app"
	"laaster/internal/wire"
)

const schemasAt = "#/components/schemas/"

// openapi describes reads and writes over HTTP as OpenAPI 3.1. What no role is granted is not in it.
func (s *schema) openapi(exact bool) any {
	r := &jsonRows{exact: exact, where: schemasAt, defs: object{"Problem": problemSchema(), "WriteResult": resultSchema()}}
	paths := object{}
	for i := range s.tables {
		if ops := r.tableOperations(&s.tables[i]); len(ops) > 0 {
			paths["/v1/tables/"+url.PathEscape(s.tables[i].name)] = ops
		}
	}
	for i := range s.views {
		v := &s.views[i]
		if v.allow[app.Select] == nil {
			continue
		}
		r.defs[component("view."+v.name)] = r.row(v, false)
		paths["/v1/views/"+url.PathEscape(v.name)] = object{"get": v.read()}
	}
	return object{
		"openapi":           "3.1.0",
		"jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
		"info":              object{"title": s.title, "version": s.version, "description": "Made by `laaster schema export` of app.sql. Live: the same paths of views as event streams, and /v1/live (asyncapi)."},
		"servers":           []any{object{"url": "/"}},
		"security":          []any{object{}, object{"token": []any{}}},
		"paths":             paths,
		"components": object{
			"schemas":         r.defs,
			"securitySchemes": object{"token": object{"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
			"responses": object{
				"Problem": object{"description": "Refused: `code` says why, `hint` what to do.", "content": object{"application/problem+json": object{"schema": object{"$ref": schemasAt + "Problem"}}}},
				"Written": object{"description": "What became of each row.", "content": object{"application/json": object{"schema": object{"$ref": schemasAt + "WriteResult"}}}},
			},
		},
	}
}

// tableOperations are the writes that some role may do.
func (r *jsonRows) tableOperations(t *rowShape) object {
	ops := object{}
	row := component("table." + t.name)
	if roles := t.allow[app.Insert]; roles != nil {
		r.defs[row] = r.row(t, false)
		one := object{"$ref": schemasAt + row}
		event := cloudEvent(one)
		ops["post"] = t.operation("insert", "Insert rows", roles, []any{
			query("on_conflict", "What becomes of a row whose key exists.", object{"enum": []any{"merge", "ignore"}}),
			query("_ack", "logged: answered once durable; applied: once the outcome is final.", object{"enum": []any{"applied", "logged"}}),
			query("_atomic", "All rows or none.", object{"type": "boolean"}), idempotencyKey(),
		}, object{
			"application/json":                   object{"schema": object{"anyOf": []any{one, object{"type": "array", "items": one}}}},
			"application/x-ndjson":               object{"schema": object{"type": "string", "description": "A row per line."}},
			"application/cloudevents+json":       object{"schema": event},
			"application/cloudevents-batch+json": object{"schema": object{"type": "array", "items": event}},
		})
	}
	if !t.keyed {
		return ops
	}
	if roles := t.allow[app.Update]; roles != nil {
		r.defs[row+".change"] = r.row(t, true)
		ops["patch"] = t.operation("update", "Change the rows that the filter selects", roles, t.filters(idempotencyKey()),
			object{"application/json": object{"schema": object{"$ref": schemasAt + row + ".change"}}})
	}
	if roles := t.allow[app.Delete]; roles != nil {
		ops["delete"] = t.operation("delete", "Delete the rows that the filter selects", roles, t.filters(idempotencyKey()), nil)
	}
	return ops
}

// cloudEvent is a CloudEvent with a row as its data.
func cloudEvent(row object) object {
	text := object{"type": "string", "minLength": 1}
	return object{"type": "object", "required": []any{"specversion", "id", "source", "type", "data"}, "properties": object{
		"specversion": object{"const": "1.0"}, "id": text, "source": text, "type": text, "time": object{"type": "string", "format": "date-time"},
		"datacontenttype": object{"type": "string"}, "data": row}}
}

func (s *rowShape) operation(verb, summary string, roles []string, parameters []any, content object) object {
	op := object{
		"operationId": verb + "." + component(s.name), "summary": summary, "tags": []any{s.name}, "parameters": parameters,
		"responses":       object{"200": object{"$ref": "#/components/responses/Written"}, "default": object{"$ref": "#/components/responses/Problem"}},
		"x-laaster-roles": roles,
	}
	if content != nil {
		op["requestBody"] = object{"required": true, "content": content}
	}
	s.described(op)
	return op
}

// described adds what WITH (owner, version) says.
func (s *rowShape) described(o object) {
	if s.owner != "" {
		o["x-laaster-owner"] = s.owner
	}
	if s.release != "" {
		o["x-laaster-version"] = s.release
	}
}

func query(name, text string, schema object) object {
	return object{"name": name, "in": "query", "description": text, "schema": schema}
}

func idempotencyKey() object {
	return object{"name": "Idempotency-Key", "in": "header", "description": "A repeat under the same key has no second effect and gets the same answer.", "schema": object{"type": "string", "maxLength": 255}}
}

// filters are the parameters that select rows by their columns.
func (s *rowShape) filters(more ...any) []any {
	for i := range s.columns {
		c := &s.columns[i]
		more = append(more, query(c.name, fmt.Sprintf("A filter on %s: operator.value, such as eq.…", c.name), object{"type": "string"}))
	}
	return more
}

// read is GET of a view.
func (s *rowShape) read() object {
	row := object{"$ref": schemasAt + component("view."+s.name)}
	text := object{"type": "string"}
	op := object{
		"operationId": "read." + component(s.name), "summary": "Read rows", "tags": []any{s.name}, "x-laaster-roles": s.allow[app.Select],
		"parameters": s.filters(
			query("select", "The columns, with commas.", text), query("order", "column.asc|desc[.nullsfirst|nullslast], with commas.", text),
			query("limit", "At most so many rows.", object{"type": "integer", "minimum": 0}), query("offset", "Leave out so many rows first.", object{"type": "integer", "minimum": 0}),
			query("_after", "Wait until this position is in.", text), query("_wait", "How long, in ms.", object{"type": "integer", "minimum": 0, "maximum": 30000}),
			object{"name": "If-None-Match", "in": "header", "schema": text}),
		"responses": object{
			"200": object{"description": "The rows.", "headers": object{
				"Laaster-Position": object{"description": "The position of these rows.", "schema": text}, "ETag": object{"schema": text}},
				"content": object{
					"application/json":     object{"schema": object{"type": "array", "items": row}},
					"application/x-ndjson": object{"schema": text}, "text/csv": object{"schema": text}, "text/event-stream": object{"schema": text}}},
			"304": object{"description": "They are the same."}, "default": object{"$ref": "#/components/responses/Problem"},
		},
	}
	s.described(op)
	return op
}

func problemSchema() object {
	var codes []any
	for _, c := range wire.Codes() {
		codes = append(codes, string(c.Code))
	}
	text, count := object{"type": "string"}, object{"type": "integer"}
	return object{"type": "object", "required": []any{"type", "title", "status", "code"}, "properties": object{
		"type": text, "title": text, "status": count, "code": object{"type": "string", "examples": codes}, "detail": text, "field": text, "hint": text,
		"retry": object{"enum": []any{"no", "after"}}, "retry_after_ms": count, "expected": count, "request": text}}
}

func resultSchema() object {
	count := object{"type": "integer", "minimum": 0}
	return object{"type": "object", "required": []any{"position", "final", "accepted", "duplicates"}, "properties": object{
		"position": object{"type": "string"}, "final": object{"type": "boolean"}, "accepted": count, "duplicates": count,
		"rejected": object{"type": "array", "items": object{"type": "object", "required": []any{"index", "error"}, "properties": object{
			"index": count, "error": object{"$ref": schemasAt + "Problem"}}}}}}
}
