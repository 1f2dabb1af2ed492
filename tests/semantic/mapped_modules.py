"""Small YANG modules with everything that a mapping to triples can meet."""

ZOO = """module zoo {
  yang-version 1.1; namespace "urn:zoo"; prefix z;
  import ietf-yang-types { prefix yang; }
  revision 2026-01-01;
  typedef tally { type yang:counter64; }
  typedef when { type yang:date-and-time; }
  identity animal; identity cat { base animal; } identity lynx { base cat; }
  identity text { base animal; }
  leaf motto { type string; }
  container types {
    leaf i8 { type int8; } leaf i16 { type int16; } leaf i32 { type int32; } leaf i64 { type int64; }
    leaf u8 { type uint8; } leaf u16 { type uint16; } leaf u32 { type uint32; } leaf u64 { type uint64; }
    leaf d1 { type decimal64 { fraction-digits 1; } } leaf d18 { type decimal64 { fraction-digits 18; } }
    leaf text { type string; } leaf flag { type boolean; } leaf nothing { type empty; }
    leaf state { type enumeration { enum up; enum down; enum "not known"; } }
    leaf bits { type bits { bit a; bit b; bit c; } }
    leaf octets { type binary; }
    leaf kind { type identityref { base animal; } }
    leaf at { type yang:date-and-time; } leaf when { type when; }
    leaf-list moments { type when; ordered-by user; }
    leaf where { type instance-identifier { require-instance false; } }
    leaf dotted.name-x { type string; }
    leaf any-of { type union {
      type uint8; type boolean; type enumeration { enum many; } type identityref { base animal; }
      type decimal64 { fraction-digits 2; } type binary { length 9; } type int64; type uint64; type empty;
      type instance-identifier { require-instance false; } type string; } }
    leaf-list many-of { ordered-by user; type union { type int32; type identityref { base animal; }
      type string; } }
    leaf-list numbers { type uint16; } leaf-list words { type string; ordered-by user; }
    leaf-list sets { type bits { bit a; bit b; } } leaf-list kinds { type identityref { base animal; } }
    anydata thing; anyxml other;
    container there { presence "it is there"; leaf inside { type string; } }
    container nested { container deeper { leaf leaf { type string; } } }
    choice one { case a { leaf in-a { type string; } container box { leaf x { type string; } } }
                 case b { choice two { leaf in-b { type string; } leaf-list in-c { type string; } } } }
  }
  list rule { key name; ordered-by user; leaf name { type string; } leaf action { type string; }
    list step { key number; ordered-by user; leaf number { type int16; } } }
  list keyed { key "a b c d e f";
    leaf a { type string; } leaf b { type int64; } leaf c { type boolean; }
    leaf d { type identityref { base animal; } } leaf e { type decimal64 { fraction-digits 3; } }
    leaf f { type union { type uint8; type when; type bits { bit x; bit y; } } }
    leaf value { type string; } }
  container stats { config false;
    leaf plain { type uint32; } leaf seen { type tally; }
    leaf-list history { type int8; }
    list sample { leaf at { type when; } leaf value { type decimal64 { fraction-digits 4; } }
      list part { leaf part { type string; } } }
    list cell { key id; leaf id { type uint32; } leaf traffic { type yang:zero-based-counter32; } }
  }
  container mixed { leaf setting { type string; } leaf reading { type int32; config false; }
    list port { key id; leaf id { type string; } leaf speed { type uint32; }
      leaf moved { type yang:counter32; config false; } } }
}"""

LINKS = """module links {
  yang-version 1.1; namespace "urn:links"; prefix l;
  container top {
    list site { key id; leaf id { type string; }
      leaf nearest { type leafref { path "../../site/id"; } }
      list room { key "floor name"; leaf floor { type uint8; } leaf name { type string; }
        leaf next-floor { type leafref { path "../../room/floor"; } }
        leaf next { type leafref { path "../../room[floor = current()/../next-floor]/name"; } }
        leaf-list sees { type leafref { path "../../../site/id"; } } } }
    list visit { key "site number"; leaf site { type leafref { path "../../site/id"; } }
      leaf number { type uint16; }
      container to { leaf floor { type leafref { path
          "/l:top/l:site[l:id=current()/../../site]/l:room/l:floor"; } }
        leaf room { type leafref { path
          "/l:top/l:site[l:id=current()/../../site]/l:room[l:floor=current()/../floor]/l:name"; } } }
      leaf again { type leafref { path "../../visit/site"; } } }
    leaf lost { type leafref { path "../site/room/name"; } }
    leaf either { type union { type leafref { path "../site/id"; } type enumeration { enum none; } } }
    leaf any { type union { type leafref { path "../site/id"; } type string; } }
    leaf exact { type instance-identifier { require-instance false; } }
  }
  container open { list thing { key name;
      leaf name { type leafref { path "../config/name"; } }
      container config { leaf name { type string; } leaf peer { type leafref {
        path "/l:open/l:thing/l:config/l:name"; } } } } }
}"""

LOOP = """module loop {
  yang-version 1.1; namespace "urn:loop"; prefix o;
  container ring {
    leaf a { type leafref { path "../b"; } } leaf b { type leafref { path "../c"; } }
    leaf c { type leafref { path "../a"; } }
    list entry { key name; leaf name { type leafref { path "../../entry/name"; } } leaf v { type string; } }
  }
}"""

ACME = """module acme-ports {
  yang-version 1.1; namespace "urn:acme:ports"; prefix ap;
  import ietf-interfaces { prefix if; }
  feature fan;
  identity optics; identity sfp28 { base optics; }
  augment "/if:interfaces/if:interface" {
    container port { leaf optics { type identityref { base optics; } }
      leaf speed { type decimal64 { fraction-digits 3; } units "Gbit/s"; }
      leaf name { type string; }
      leaf backup { type if:interface-ref; }
      leaf drops { type uint64; config false; }
      leaf fan-speed { if-feature fan; type uint16; } }
  }
}"""

DEVIATION = """module acme-deviations {
  yang-version 1.1; namespace "urn:acme:deviations"; prefix ad;
  import ietf-interfaces { prefix if; }
  deviation "/if:interfaces/if:interface/if:description" { deviate not-supported; }
}"""
