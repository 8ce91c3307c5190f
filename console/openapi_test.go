package console

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"

	"semantos/internal/tune"
)

func contract(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromFile("../openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return doc
}

// operations lists "METHOD path" of the contract; only limits it to one tag.
func operations(doc *openapi3.T, only string) []string {
	var out []string
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			if only == "" || slices.Contains(op.Tags, only) {
				out = append(out, method+" "+path)
			}
		}
	}
	slices.Sort(out)
	return out
}

func routes(t *testing.T, h http.Handler) []string {
	t.Helper()
	e, ok := h.(*echo.Echo)
	if !ok {
		t.Fatalf("handler is a %T", h)
	}
	var out []string
	for _, r := range e.Routes() {
		if r.Method != http.MethodHead {
			out = append(out, r.Method+" "+r.Path)
		}
	}
	slices.Sort(out)
	return out
}

func TestEveryPathHasAHandlerAndTheReverse(t *testing.T) {
	t.Parallel()
	doc, c := contract(t), newConsole(t, newRoom())
	if d := cmp.Diff(operations(doc, ""), routes(t, c.Unix())); d != "" {
		t.Errorf("unix socket (-contract +served):\n%s", d)
	}
	if d := cmp.Diff(operations(doc, "open"), routes(t, c.TCP())); d != "" {
		t.Errorf("TCP (-contract +served):\n%s", d)
	}
}

// TestSchemasMatchTypes compares names of fields both ways, so that neither side gains one alone.
func TestSchemasMatchTypes(t *testing.T) {
	t.Parallel()
	doc := contract(t)
	types := map[string]any{
		"Problem": Problem{}, "Health": Health{}, "Readiness": Readiness{}, "Snapshot": tune.Snapshot{}, "Observation": Observation{}, "Metrics": Metrics{},
		"Facts": tune.Facts{}, "Entity": tune.Entity{}, "Missing": tune.Missing{}, "Workload": tune.Workload{}, "Symptom": tune.Symptom{}, "Fact": tune.Fact{},
		"Measure": tune.Measure{}, "Advice": Advice{}, "Recommendation": tune.Recommendation{}, "Change": tune.Change{},
		"Impact": tune.Impact{}, "Provenance": tune.Provenance{}, "Voter": tune.Voter{}, "Rollout": tune.Rollout{}, "Stage": tune.Stage{},
		"Effect": tune.Effect{}, "Managed": tune.Managed{}, "LoopState": tune.LoopState{}, "Resting": tune.Resting{}, "Status": Status{},
		"History": History{}, "RollbackResult": RollbackResult{}, "Event": Event{}, "MeterSample": tune.MeterSample{},
		"RecommendRequest": RecommendRequest{}, "ApplyRequest": ApplyRequest{}, "RollbackRequest": RollbackRequest{},
		"AdvanceRequest": AdvanceRequest{}, "HoldRequest": HoldRequest{}, "CalibrateRequest": CalibrateRequest{}, "Calibration": tune.Calibration{},
		"CalibrationWindow": tune.Window{}, "DriftCut": tune.DriftCut{}, "Accuracy": tune.Accuracy{}, "Admission": tune.Admission{},
		"SampleRequest": SampleRequest{}, "AbortRequest": AbortRequest{}, "FreezeRequest": FreezeRequest{}, "FreezeResult": FreezeResult{}, "Freeze": tune.Freeze{}, "LimitStanding": tune.LimitStanding{}, "Ablation": tune.Ablation{}, "Ablated": tune.Ablated{},
		"Node": tune.Node{}, "Edge": tune.Edge{}, "SearchRequest": SearchRequest{}, "SearchResult": SearchResult{}, "SearchHit": SearchHit{},
		"NeighborhoodRequest": NeighborhoodRequest{}, "Neighborhood": Neighborhood{}, "Reached": Reached{}, "PathRequest": PathRequest{},
		"Path": Path{}, "DecayRequest": DecayRequest{}, "Decay": Decay{}, "DecayedEdge": DecayedEdge{}, "TunableRequest": TunableRequest{},
		"EdgeRequest": EdgeRequest{}, "InduceRequest": InduceRequest{}, "SweepRun": SweepRun{}, "Findings": Findings{}, "Finding": Finding{},
		"TraceRequest": TraceRequest{}, "TraceChange": TraceChange{}, "TraceResult": TraceResult{},
	}
	if d := cmp.Diff(slices.Sorted(maps.Keys(doc.Components.Schemas)), slices.Sorted(maps.Keys(types))); d != "" {
		t.Errorf("schemas (-contract +types):\n%s", d)
	}
	for name, value := range types {
		schema := doc.Components.Schemas[name]
		if schema == nil {
			continue
		}
		want := slices.Sorted(maps.Keys(schema.Value.Properties))
		if d := cmp.Diff(want, fields(reflect.TypeOf(value))); d != "" {
			t.Errorf("%s (-contract +type):\n%s", name, d)
		}
	}
}

func fields(typ reflect.Type) []string {
	var out []string
	for f := range typ.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous:
			out = append(out, fields(f.Type)...)
		case name != "-":
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// TestAnswersMatchTheContract asks every path once well and once badly over the socket.
func TestAnswersMatchTheContract(t *testing.T) {
	t.Parallel()
	doc := contract(t)
	bodies := map[string]string{
		"/get_recommendations": `{"window_s":8}`, "/apply": `{"id":"0123456789ab"}`, "/rollback": `{"all":true}`,
		"/rollout/advance": `{"id":"x"}`, "/rollout/abort": `{"id":"x","why":"w"}`, "/freeze": `{"freeze":true,"why":"w"}`, "/rollout/hold": `{"hold":true}`, "/calibrate": `{}`,
		"/rollout/sample": `{"rollout":"x","seq":1,"sample":{"p95_ms":3}}`,
		"/kb/search":      `{"text":"accept queue","by":"fused","limit":3}`, "/kb/typed_neighborhood": `{"node":"vm.a","depth":2,"types":["relieves"]}`,
		"/kb/dependency_path": `{"from":"vm.a","to":"vm.b"}`, "/kb/decay": `{"at":"2026-04-04T12:00:00Z"}`,
		"/kb/upsert_tunable": `{"name":"vm.new","summary":"s"}`,
		"/kb/dep_edge":       `{"from":"vm.a","type":"depends_on","to":"vm.b","weight":0.5,"source":"man 2 x"}`,
		"/kb/induce":         `{"metric":"p95_ms","better":"lower","runs":[{"on":["vm.a"],"value":2}]}`,
		"/kb/upsert_trace":   traceBody, "/log_outcome": traceBody,
	}
	good, bad, empty := newRoom(), newRoom(), &room{state: tune.LoopState{Phase: "starting"}}
	bad.err = &tune.Error{Op: "find", Subject: "x", Err: tune.ErrUnknown, Hint: "look elsewhere"}
	bad.state.Ready = false
	for name, r := range map[string]*room{"good": good, "bad": bad, "empty": empty} {
		_, client, _ := serve(t, newConsole(t, r))
		for _, operation := range operations(doc, "") {
			method, path, _ := strings.Cut(operation, " ")
			if path == "/events" {
				continue // does not end; it has its own test
			}
			t.Run(name+" "+operation, func(t *testing.T) {
				check(t, doc, client, method, path, bodies[path])
			})
		}
	}
}

const traceBody = `{"symptoms":["s"],"changes":[{"tunable":"vm.a","proposed":"2"}],"state":"committed","effect":` +
	`{"metric":"p95_ms","better":"lower","ratio":0.5,"low":0.4,"high":0.6}}`

func check(t *testing.T, doc *openapi3.T, client *http.Client, method, path, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://serve"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	op := doc.Paths.Find(path).GetOperation(method)
	if op.RequestBody != nil {
		var v any
		if err := json.Unmarshal([]byte(body), &v); err != nil {
			t.Fatal(err)
		}
		if err := op.RequestBody.Value.Content["application/json"].Schema.Value.VisitJSON(v); err != nil {
			t.Errorf("the request breaks the contract: %v", err)
		}
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	matches(t, op, res, data)
}

func matches(t *testing.T, op *openapi3.Operation, res *http.Response, data []byte) {
	t.Helper()
	said := op.Responses.Status(res.StatusCode)
	if said == nil {
		said = op.Responses.Default()
	}
	if len(said.Value.Content) == 0 {
		if len(data) > 0 {
			t.Errorf("status %d with an unexpected body %s", res.StatusCode, data)
		}
		return
	}
	kind, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
	media := said.Value.Content[kind]
	if media == nil {
		t.Fatalf("status %d has content type %q, the contract does not", res.StatusCode, kind)
	}
	if !strings.Contains(kind, "json") {
		return
	}
	var v any
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	if err := media.Schema.Value.VisitJSON(v, openapi3.MultiErrors()); err != nil {
		t.Errorf("status %d breaks the contract: %v\n%s", res.StatusCode, err, data)
	}
}
