package memory_test

import (
	"errors"
	"testing"

	"laaster/internal/backbone"
	"laaster/internal/backbone/backbonetest"
	"laaster/internal/backbone/memory"
)

type store struct{ *memory.Store }

func (s store) Open(*testing.T) backbone.Driver                    { return s.Store.Open() }
func (s store) Beside(*testing.T, backbone.Driver) backbone.Driver { return s.Store.Open() }

func TestConformance(t *testing.T) {
	backbonetest.Run(t, func(*testing.T) backbonetest.Store { return store{memory.NewStore(0)} })
}

func TestLimit(t *testing.T) {
	d := memory.NewStore(10).Open()
	if _, err := d.Append(t.Context(), make([]byte, 8), 0); err != nil {
		t.Fatal(err)
	}
	_, err := d.Append(t.Context(), make([]byte, 3), 1)
	if w := (*backbone.WriteError)(nil); !errors.As(err, &w) || !w.Full {
		t.Errorf("got %v, want a full store", err)
	}
}
