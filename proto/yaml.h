// SPDX-License-Identifier: MIT
//
// Reads a YAML file against a schema, for broker.yaml, node.yaml, client.yaml
// and the definitions of sets.  One libcyaml schema says what is allowed.  It
// is walked twice: over libyaml's events, to name every wrong key, missing key,
// doubled key, wrong kind of value and second document with its line and column
// (libcyaml cannot name them), and by libcyaml itself, to fill the caller's
// struct.
//
// A schema is built of mappings, lists and texts only:
//   CYAML_FIELD_STRING_PTR(key, flags, struct, member, min, max)   char *member
//   CYAML_FIELD_MAPPING_PTR(key, flags, struct, member, fields)    struct
//   *member CYAML_FIELD_SEQUENCE(key, flags, struct, member, &entry, min, max)
//                                       entry *member, unsigned member_count
// with flags CYAML_FLAG_POINTER, and CYAML_FLAG_OPTIONAL where a key may be
// left out (the member is then NULL).  Its top is
// CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct, fields), and one of its
// fields the text `format`: that key must come first and say 1; this is checked
// here.
//
// Every scalar is read as text, because libcyaml reads `10m` as 10.  The caller
// parses them with the functions below, which complain at the right place.
//
// A path names a place: "" the file, "lease", "resources[1].filesystem.mount".

#ifndef FLEET_YAML_H
#define FLEET_YAML_H

#include <cyaml/cyaml.h>

#include "proto/complaint.h"
#include "proto/errors.h"

typedef struct fleet_yaml_doc fleet_yaml_doc_t;

// Reads a whole file that has at most `max` bytes.  FLEET_BAD_FILE and a
// complaint if it cannot be read.  The caller frees ret_text, which is also
// terminated.
fleet_err_t fleet_yaml_read_file(const char *path, size_t max, char **ret_text,
                                 size_t *ret_size,
                                 fleet_complaints_t *complaints);

// Checks and loads a document.  FLEET_BAD_FILE and at least one complaint if it
// does not fit the schema.  complaints must outlive the document: what the
// functions below find is added to it.  The caller destroys the document.
fleet_err_t fleet_yaml_load(const char *text, size_t size,
                            const cyaml_schema_value_t *schema,
                            fleet_complaints_t *complaints,
                            fleet_yaml_doc_t **ret_doc);
void fleet_yaml_destroy(fleet_yaml_doc_t **doc_p);

// The struct that libcyaml filled; a loan from the document.
const void *fleet_yaml_data(const fleet_yaml_doc_t *doc);

// Is there such a key or entry?  (Tells `needs: []` from no `needs`.)
bool fleet_yaml_has(const fleet_yaml_doc_t *doc, const char *path);

// Adds a complaint at the place of a path; if that is not in the file, at the
// nearest place around it.  Returns it for its hint, as fleet_complaints_add.
fleet_complaint_t *fleet_yaml_complain(const fleet_yaml_doc_t *doc,
                                       const char *path, const char *format,
                                       ...)
    __attribute__((format(printf, 3, 4)));

// Parsers of scalars.  text is what the struct has at path.  NULL (left out)
// leaves *ret alone, so that a default can stand in it before.  They complain
// and return false, with *ret untouched, if the text is not right.

// A name of a site, set, node, resource or person.
bool fleet_yaml_name(const fleet_yaml_doc_t *doc, const char *path,
                     const char *text, fleet_name_t *ret);

// Any text that fits into a field of `size` bytes, control characters refused.
bool fleet_yaml_text(const fleet_yaml_doc_t *doc, const char *path,
                     const char *text, char *ret, size_t size);

// An absolute path.
bool fleet_yaml_path(const fleet_yaml_doc_t *doc, const char *path,
                     const char *text, fleet_text_t *ret);

// "500ms" "30s", from least to most.
bool fleet_yaml_duration(const fleet_yaml_doc_t *doc, const char *path,
                         const char *text, uint64_t least_ms, uint64_t most_ms,
                         uint64_t *ret_ms);

// A decimal number from least to most; no sign, no leading zero.
bool fleet_yaml_number(const fleet_yaml_doc_t *doc, const char *path,
                       const char *text, uint64_t least, uint64_t most,
                       uint64_t *ret);

// true false; no other spelling.
bool fleet_yaml_bool(const fleet_yaml_doc_t *doc, const char *path,
                     const char *text, bool *ret);

// 64 hex digits.
bool fleet_yaml_key(const fleet_yaml_doc_t *doc, const char *path,
                    const char *text, fleet_key_t ret);

// One of words; *ret is its index.
bool fleet_yaml_word(const fleet_yaml_doc_t *doc, const char *path,
                     const char *text, const char *const *words, size_t words_n,
                     size_t *ret);

#endif
