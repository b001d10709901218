package client

import (
	"bytes"
	"encoding/json"
	"strconv"

	"laaster/internal/wire"
)

// The frames of the client, as internal/wire/frames.go has them for the server.

type helloFrame struct {
	Type      string           `json:"type"`
	Token     string           `json:"token,omitempty"`
	Client    wire.Client      `json:"client"`
	Resume    string           `json:"resume,omitempty"`
	Subscribe []subscribeFrame `json:"subscribe,omitempty"`
	Rate      float64          `json:"rate,omitempty"`
	Every     bool             `json:"every,omitempty"`
	Exact     bool             `json:"exact,omitempty"`
	Instance  string           `json:"instance,omitempty"`
}

type subscribeFrame struct {
	Type   string          `json:"type,omitempty"`
	ID     string          `json:"id"`
	View   string          `json:"view"`
	Filter string          `json:"filter,omitempty"`
	Select string          `json:"select,omitempty"`
	Order  string          `json:"order,omitempty"`
	Limit  int             `json:"limit,omitempty"`
	Offset int             `json:"offset,omitempty"`
	From   json.RawMessage `json:"from,omitempty"`
}

type unsubscribeFrame struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

type pingFrame struct {
	Type string  `json:"type"`
	T    float64 `json:"t"`
}

type seenFrame struct {
	Type     string  `json:"type"`
	Position string  `json:"position"`
	ShownMS  float64 `json:"shown_ms"`
}

// welcomeFrame is what is read of the server's welcome.
type welcomeFrame struct {
	Now        float64     `json:"now"`
	Limits     wire.Limits `json:"limits"`
	Connection string      `json:"connection"`
}

// encode returns a frame of ours as JSON. What users supply was checked before.
func encode(frame any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(frame); err != nil {
		panic("client: " + err.Error())
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// received is a frame of the server, taken apart as far as all kinds need it. Everything is part of the message.
type received struct {
	kind, id, position, from     string
	at, changes, key, rows, more []byte
	put, del, full, count        []byte
}

func readFrame(message []byte) (f received, err error) {
	if err := checkJSON(message); err != nil {
		return f, err
	}
	f.read(message)
	return f, nil
}

func (f *received) read(object []byte) {
	members(object, func(name, value []byte) {
		switch string(name) {
		case "type":
			f.kind = text(value)
		case "id":
			f.id = text(value)
		case "position":
			f.position = text(value)
		case "from":
			f.from = text(value)
		case "at":
			f.at = value
		case "changes":
			f.changes = value
		case "key":
			f.key = value
		case "rows":
			f.rows = value
		case "more":
			f.more = value
		case "put":
			f.put = value
		case "del":
			f.del = value
		case "full":
			f.full = value
		case "count":
			f.count = value
		}
	})
}

func (f *received) millis() float64 {
	ms, err := strconv.ParseFloat(string(f.at), 64)
	if err != nil {
		return 0
	}
	return ms
}

// names reads an array of strings; never nil.
func names(array []byte) []string {
	out := []string{}
	elements(array, func(v []byte) { out = append(out, text(v)) })
	return out
}

func isTrue(value []byte) bool { return string(value) == "true" }
