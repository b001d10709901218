package main

import (
	"maps"
	"net/url"
	"slices"

	"laaster/app"
)

// asyncapi describes events in and changes out as AsyncAPI 3.0, as the server sees them: it receives rows of tables and sends rows of views. What no role is
// granted is not in it. Payloads are JSON Schema; parts of it that are newer than draft-07 are for readers who know them.
func (s *schema) asyncapi(exact bool) any {
	d := &asyncDoc{rows: jsonRows{exact: exact, where: schemasAt, defs: object{}}, channels: object{}, operations: object{}, messages: object{}}
	for i := range s.tables {
		d.table(&s.tables[i])
	}
	for i := range s.views {
		d.view(&s.views[i])
	}
	for i := range s.channels {
		d.signals(&s.channels[i])
	}
	return object{
		"asyncapi":           "3.0.0",
		"info":               object{"title": s.title, "version": s.version, "description": "Made by `laaster schema export` of app.sql. Over WebSockets at /v1/live the same rows travel in frames, several views on one connection."},
		"defaultContentType": "application/json",
		"servers":            object{"public": object{"host": "127.0.0.1:8080", "protocol": "http", "description": "The public listener; its address is a setting."}},
		"channels":           d.channels,
		"operations":         d.operations,
		"components":         object{"schemas": d.rows.defs, "messages": d.messages},
	}
}

type asyncDoc struct {
	rows                           jsonRows
	channels, operations, messages object
}

// add adds a channel with its messages and one operation for each action.
func (d *asyncDoc) add(s *rowShape, kind, address, text string, messages object, actions map[string][]string) {
	name := component(kind + "." + s.name)
	refs, list := object{}, []any{}
	for m, payload := range messages {
		id := name + "." + m
		d.messages[id] = object{"name": m, "payload": payload}
		refs[m] = object{"$ref": "#/components/messages/" + id}
	}
	for _, m := range slices.Sorted(maps.Keys(messages)) {
		list = append(list, object{"$ref": "#/channels/" + name + "/messages/" + m})
	}
	channel := object{"address": address, "description": text, "messages": refs}
	s.described(channel)
	d.channels[name] = channel
	for action, roles := range actions {
		d.operations[action+"."+name] = object{"action": action, "channel": object{"$ref": "#/channels/" + name}, "messages": list, "x-laaster-roles": roles}
	}
}

func (d *asyncDoc) table(t *rowShape) {
	roles := t.allow[app.Insert]
	if roles == nil {
		return
	}
	row := component("table." + t.name)
	d.rows.defs[row] = d.rows.row(t, false)
	ref := object{"$ref": schemasAt + row}
	d.add(t, "tables", "/v1/tables/"+url.PathEscape(t.name), "POST: rows of the table.",
		object{"row": ref, "event": cloudEvent(ref)}, map[string][]string{"receive": roles})
}

func (d *asyncDoc) view(v *rowShape) {
	roles := v.allow[app.Select]
	if roles == nil {
		return
	}
	row := component("view." + v.name)
	d.rows.defs[row] = d.rows.row(v, false)
	rows := object{"type": "array", "items": object{"$ref": schemasAt + row}}
	text := object{"type": "string"}
	d.add(v, "views", "/v1/views/"+url.PathEscape(v.name), "GET with Accept: text/event-stream: the rows, then what changes.", object{
		"snapshot": object{"type": "object", "required": []any{"position", "key", "rows", "more"}, "properties": object{
			"position": text, "key": v.keySchema(), "rows": rows, "more": object{"type": "boolean"}}},
		"epoch": object{"type": "object", "required": []any{"position", "at"}, "properties": object{
			"position": text, "from": text, "at": object{"type": "number"}, "put": rows, "del": object{"type": "array", "items": object{"type": "array"}}}},
	}, map[string][]string{"send": roles})
}

// keySchema is the key of a view: it is the same in every snapshot.
func (s *rowShape) keySchema() object {
	key := make([]any, 0, len(s.key))
	for _, k := range s.key {
		key = append(key, k)
	}
	return object{"type": "array", "items": object{"type": "string"}, "const": key}
}

func (d *asyncDoc) signals(c *rowShape) {
	actions := map[string][]string{}
	if roles := c.allow[app.Select]; roles != nil {
		actions["send"] = roles
	}
	for _, p := range []app.Privilege{app.Insert, app.Update} {
		if roles := c.allow[p]; roles != nil {
			actions["receive"] = roles
		}
	}
	if len(actions) == 0 {
		return
	}
	row := component("channel." + c.name)
	d.rows.defs[row] = d.rows.row(c, false)
	d.add(c, "channels", "/v1/live", "Frames of type signal: rows in memory alone.", object{"row": object{"$ref": schemasAt + row}}, actions)
}
