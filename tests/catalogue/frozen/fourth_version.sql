-- A catalogue of schema 4 as it was written. Frozen: never write it anew.
PRAGMA application_id = 1634886518;
PRAGMA user_version = 4;
BEGIN TRANSACTION;
CREATE TABLE cards (
	manifest_id INTEGER NOT NULL, 
	licence TEXT NOT NULL, 
	title TEXT NOT NULL, 
	terms TEXT NOT NULL, 
	text TEXT NOT NULL, 
	CONSTRAINT pk_cards PRIMARY KEY (manifest_id), 
	CONSTRAINT fk_cards_manifest_id FOREIGN KEY(manifest_id) REFERENCES manifests (id)
);
CREATE TABLE events (
	digest BLOB NOT NULL, 
	event TEXT NOT NULL, 
	time TEXT NOT NULL, 
	tool TEXT NOT NULL, 
	repository TEXT NOT NULL, 
	revision TEXT NOT NULL, 
	detail TEXT NOT NULL, 
	CONSTRAINT pk_events PRIMARY KEY (digest)
)
 WITHOUT ROWID

;
INSERT INTO "events" VALUES(X'81DB4AEBCCA089426F75F64115C77C6CE2E2516FD2A9F6A8850CBA10512F277D','sealed','2026-01-01T00:00:00Z','archiver 0.1.0','','','{"snapshot":"325057fdf2e8520d9b4ac0025f17564b5a3a66d3a375a7f96b30c5e9a0fe2866"}');
CREATE TABLE files (
	manifest_id INTEGER NOT NULL, 
	path TEXT NOT NULL, 
	size INTEGER NOT NULL, 
	sha256 BLOB NOT NULL, 
	blake3 BLOB NOT NULL, 
	oid BLOB, 
	lfs BOOLEAN NOT NULL, 
	layout_id INTEGER, 
	CONSTRAINT pk_files PRIMARY KEY (manifest_id, path), 
	CONSTRAINT fk_files_manifest_id FOREIGN KEY(manifest_id) REFERENCES manifests (id), 
	CONSTRAINT fk_files_layout_id FOREIGN KEY(layout_id) REFERENCES layouts (id)
)
 WITHOUT ROWID

;
INSERT INTO "files" VALUES(1,'config.json',101,X'CDBAEA40F544C8C53705E5B76BB69A308972363D090BE34418BAD606E1D1BE64',X'0D2F71E1F3A5A35789A49AB845E2C72CBB8DFB83DE8E0904689766FE08377FD6',X'2E9940AE95BAF91610B022A53405A15677E9039B',0,NULL);
INSERT INTO "files" VALUES(1,'model.safetensors',1100,X'7F933B9AF0C1B568E0092DCD1C84798C4C167A1B38902ABDBA2423C81277903A',X'BD3F9DA261A502165936973C1B393AC501A6E6ED7A68CC892B712DFDEF4BE968',X'4B8E1A7B7A70B23C7FAE4A805FEE41E2E8FDEBF9',1,1);
CREATE TABLE layouts (
	id INTEGER NOT NULL, 
	digest BLOB NOT NULL, 
	CONSTRAINT pk_layouts PRIMARY KEY (id), 
	CONSTRAINT uq_layouts_digest UNIQUE (digest)
);
INSERT INTO "layouts" VALUES(1,X'1057A51A05243EC4C41D815DA7BBD7B498941B6033C2DB6BE2808FBDEDCCA63B');
CREATE TABLE manifests (
	id INTEGER NOT NULL, 
	digest BLOB NOT NULL, 
	upstream TEXT NOT NULL, 
	endpoint TEXT NOT NULL, 
	committed TEXT NOT NULL, 
	licence TEXT NOT NULL, 
	CONSTRAINT pk_manifests PRIMARY KEY (id), 
	CONSTRAINT uq_manifests_digest UNIQUE (digest)
);
INSERT INTO "manifests" VALUES(1,X'4628EEA5177F6C6BC4E79AE9B444D539A8A26DE52275876681A2EB447267A25E','huggingface','https://huggingface.co','','');
CREATE TABLE objects (
	blake3 BLOB NOT NULL, 
	pack_id INTEGER NOT NULL, 
	"offset" INTEGER NOT NULL, 
	stored INTEGER NOT NULL, 
	size INTEGER NOT NULL, 
	codec INTEGER NOT NULL, 
	CONSTRAINT pk_objects PRIMARY KEY (blake3, pack_id, "offset"), 
	CONSTRAINT fk_objects_pack_id FOREIGN KEY(pack_id) REFERENCES packs (id)
)
 WITHOUT ROWID

;
INSERT INTO "objects" VALUES(X'364DEDA15E47DBE869D68C691356173734AA8E6D813146EACF4153B72F745E00',1,140,90,128,1);
INSERT INTO "objects" VALUES(X'40567FCD8EAFA68C40B947DCDC0062FCEB7A9DA86247A10FA8D4AD8C21C95217',1,40,90,128,1);
INSERT INTO "objects" VALUES(X'B843D05A54F5DBCC1ED718539DFFD75209D7D712488363328B7D951E4766226E',1,240,90,128,1);
CREATE TABLE packs (
	id INTEGER NOT NULL, 
	digest BLOB NOT NULL, 
	size INTEGER NOT NULL, 
	objects INTEGER NOT NULL, 
	CONSTRAINT pk_packs PRIMARY KEY (id), 
	CONSTRAINT uq_packs_digest UNIQUE (digest)
);
INSERT INTO "packs" VALUES(1,X'50912EB2DA41E9538E5619DFC4492B429B753F2126575C69F120DD3D31825B50',340,3);
CREATE TABLE repositories (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	CONSTRAINT pk_repositories PRIMARY KEY (id), 
	CONSTRAINT uq_repositories_name UNIQUE (name)
);
INSERT INTO "repositories" VALUES(1,'Qwen/Qwen3.5-4B');
CREATE TABLE snapshots (
	id INTEGER NOT NULL, 
	digest BLOB NOT NULL, 
	repository_id INTEGER NOT NULL, 
	revision BLOB NOT NULL, 
	manifest_id INTEGER NOT NULL, 
	sealed TEXT NOT NULL, 
	tool TEXT NOT NULL, 
	parent BLOB, 
	selection TEXT NOT NULL, 
	files INTEGER NOT NULL, 
	bytes INTEGER NOT NULL, 
	objects INTEGER NOT NULL, 
	stored INTEGER NOT NULL, 
	tensors INTEGER NOT NULL, 
	CONSTRAINT pk_snapshots PRIMARY KEY (id), 
	CONSTRAINT uq_snapshots_digest UNIQUE (digest), 
	CONSTRAINT fk_snapshots_repository_id FOREIGN KEY(repository_id) REFERENCES repositories (id), 
	CONSTRAINT fk_snapshots_manifest_id FOREIGN KEY(manifest_id) REFERENCES manifests (id)
);
INSERT INTO "snapshots" VALUES(1,X'A7CB5B4C86D97B5539C163F6BCD0D29D42842B6F81C523F297BB46808B8E8C33',1,X'221E5BEEEADD43F9A09820C7AFB36723EE7DDE45',1,'2026-01-01T00:00:00Z','archiver 0.1.0',NULL,'{"exclude":[],"include":[]}',2,1201,1,90,2);
CREATE TABLE tensor_groups (
	layout_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	pattern TEXT NOT NULL, 
	dtype TEXT NOT NULL, 
	shape TEXT NOT NULL, 
	tensors INTEGER NOT NULL, 
	bytes INTEGER NOT NULL, 
	CONSTRAINT pk_tensor_groups PRIMARY KEY (layout_id, number), 
	CONSTRAINT fk_tensor_groups_layout_id FOREIGN KEY(layout_id) REFERENCES layouts (id)
)
 WITHOUT ROWID

;
INSERT INTO "tensor_groups" VALUES(1,0,'model.layers.#.mlp.experts.gate_up_proj.weight','BF16','64,1',3,384);
CREATE TABLE tensors (
	layout_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	dtype TEXT NOT NULL, 
	shape TEXT NOT NULL, 
	"begin" INTEGER NOT NULL, 
	"end" INTEGER NOT NULL, 
	CONSTRAINT pk_tensors PRIMARY KEY (layout_id, number), 
	CONSTRAINT fk_tensors_layout_id FOREIGN KEY(layout_id) REFERENCES layouts (id)
)
 WITHOUT ROWID

;
INSERT INTO "tensors" VALUES(1,0,'model.layers.0.mlp.experts.gate_up_proj.weight','BF16','64,1',0,128);
INSERT INTO "tensors" VALUES(1,1,'model.layers.1.mlp.experts.gate_up_proj.weight','BF16','64,1',128,256);
INSERT INTO "tensors" VALUES(1,2,'model.layers.2.mlp.experts.gate_up_proj.weight','BF16','64,1',256,384);
CREATE INDEX ix_events_repository_time ON events (repository, time);
CREATE INDEX ix_events_time ON events (time);
CREATE INDEX ix_files_oid_size ON files (oid, size);
CREATE INDEX ix_files_sha256_size ON files (sha256, size);
CREATE INDEX ix_snapshots_manifest_id ON snapshots (manifest_id);
CREATE INDEX ix_snapshots_repository_id_revision ON snapshots (repository_id, revision);
COMMIT;
