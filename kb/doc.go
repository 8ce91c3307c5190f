// Package kb is the knowledge of semantos as data: the catalogue of tunables (tunables/*.yaml), the
// rules from symptom to relief (rules/*.yaml), and the graph that both span.
//
// It owns reading, checking and looking up that data. It must never read or write a tunable of the
// host, and never start half-loaded: one problem in one file refuses the whole catalogue, and every
// problem is named with file, line and field. Catalogue files can add entries and narrow ranges; the
// roots below which a path may lie and the deny list are compiled in (paths.go).
//
// Read one entry of tunables/vm.yaml first, then [Load], then [Catalogue].
package kb
