// SPDX-License-Identifier: MIT
//
// The keys of a definition: which there are, which may be left out.

#include "proto/setdef_yaml.h"

#define NEEDED CYAML_FLAG_POINTER
#define OPTIONAL (CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL)

#define TEXT(key, flags, type, member, max)                                    \
    CYAML_FIELD_STRING_PTR(key, flags, type, member, 1, max)
#define NAMES(key, type, member, most)                                         \
    CYAML_FIELD_SEQUENCE(key, OPTIONAL, type, member, &name_entry, 0, most)
#define COMMON(type)                                                           \
    TEXT("name", OPTIONAL, type, common.name, FLEET_NAME_MAX),                 \
        NAMES("needs", type, common.needs, FLEET_RESOURCES_MAX),               \
        CYAML_FIELD_MAPPING_PTR("limit", OPTIONAL, type, common.limit,         \
                                limit_fields)

static const cyaml_schema_value_t name_entry = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, FLEET_NAME_MAX)};

static const cyaml_schema_value_t ip_entry = {
    CYAML_VALUE_STRING(CYAML_FLAG_POINTER, char, 1, FLEET_ID_MAX)};

static const cyaml_schema_field_t limit_fields[] = {
    TEXT("start", OPTIONAL, yaml_limit_t, start, FLEET_NAME_MAX),
    TEXT("stop", OPTIONAL, yaml_limit_t, stop, FLEET_NAME_MAX),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t disk_group_fields[] = {
    COMMON(yaml_disk_group_t),
    TEXT("driver", NEEDED, yaml_disk_group_t, driver, FLEET_NAME_MAX),
    TEXT("path", NEEDED, yaml_disk_group_t, path, FLEET_TEXT_MAX),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t filesystem_fields[] = {
    COMMON(yaml_filesystem_t),
    TEXT("mount", NEEDED, yaml_filesystem_t, mount, FLEET_TEXT_MAX),
    TEXT("type", OPTIONAL, yaml_filesystem_t, type, FLEET_NAME_MAX),
    TEXT("options", OPTIONAL, yaml_filesystem_t, options, FLEET_TEXT_MAX),
    TEXT("fsck", OPTIONAL, yaml_filesystem_t, fsck, FLEET_NAME_MAX),
    TEXT("term", OPTIONAL, yaml_filesystem_t, term, FLEET_NAME_MAX),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t address_fields[] = {
    COMMON(yaml_address_t),
    CYAML_FIELD_SEQUENCE("ip", NEEDED, yaml_address_t, ip, &ip_entry, 1,
                         FLEET_ADDRESSES_MAX),
    TEXT("mac", OPTIONAL, yaml_address_t, mac, FLEET_ID_MAX),
    TEXT("gateway", OPTIONAL, yaml_address_t, gateway, FLEET_ID_MAX),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t probe_fields[] = {
    TEXT("command", NEEDED, yaml_probe_t, command, FLEET_TEXT_MAX),
    TEXT("every", OPTIONAL, yaml_probe_t, every, FLEET_NAME_MAX),
    TEXT("limit", OPTIONAL, yaml_probe_t, limit, FLEET_NAME_MAX),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t service_fields[] = {
    COMMON(yaml_service_t),
    TEXT("start", OPTIONAL, yaml_service_t, start, FLEET_TEXT_MAX),
    TEXT("stop", OPTIONAL, yaml_service_t, stop, FLEET_TEXT_MAX),
    TEXT("test", OPTIONAL, yaml_service_t, test, FLEET_TEXT_MAX),
    TEXT("unit", OPTIONAL, yaml_service_t, unit, FLEET_TEXT_MAX),
    TEXT("user", OPTIONAL, yaml_service_t, user, FLEET_NAME_MAX),
    CYAML_FIELD_MAPPING_PTR("probe", OPTIONAL, yaml_service_t, probe,
                            probe_fields),
    CYAML_FIELD_END,
};

static const cyaml_schema_field_t resource_fields[] = {
    CYAML_FIELD_MAPPING_PTR("disk_group", OPTIONAL, yaml_resource_t, disk_group,
                            disk_group_fields),
    CYAML_FIELD_MAPPING_PTR("filesystem", OPTIONAL, yaml_resource_t, filesystem,
                            filesystem_fields),
    CYAML_FIELD_MAPPING_PTR("address", OPTIONAL, yaml_resource_t, address,
                            address_fields),
    CYAML_FIELD_MAPPING_PTR("service", OPTIONAL, yaml_resource_t, service,
                            service_fields),
    CYAML_FIELD_END,
};

static const cyaml_schema_value_t resource_entry = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, yaml_resource_t, resource_fields)};

static const cyaml_schema_field_t set_fields[] = {
    TEXT("format", NEEDED, yaml_set_t, format, FLEET_NAME_MAX),
    TEXT("set", NEEDED, yaml_set_t, set, FLEET_TEXT_MAX),
    TEXT("about", OPTIONAL, yaml_set_t, about, FLEET_TEXT_MAX),
    TEXT("contact", OPTIONAL, yaml_set_t, contact, FLEET_TEXT_MAX),
    NAMES("nodes", yaml_set_t, nodes, FLEET_SET_NODES_MAX),
    TEXT("home", OPTIONAL, yaml_set_t, home, FLEET_TEXT_MAX),
    TEXT("takeover", OPTIONAL, yaml_set_t, takeover, FLEET_NAME_MAX),
    TEXT("boot", OPTIONAL, yaml_set_t, boot, FLEET_NAME_MAX),
    TEXT("without_lease", OPTIONAL, yaml_set_t, without_lease, FLEET_NAME_MAX),
    CYAML_FIELD_SEQUENCE("resources", OPTIONAL, yaml_set_t, resources,
                         &resource_entry, 0, FLEET_RESOURCES_MAX),
    CYAML_FIELD_END,
};

const cyaml_schema_value_t fleet_setdef_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, yaml_set_t, set_fields)};
