"""Every configuration key, with its default, unit and meaning. The other files here give differences only.

The keys of a method, the group of its name, stand in `dear_jax/setup/methods/`.

Keys marked [P] follow the paper (arXiv 2603.01111), keys marked [D] are decisions of this project where
the paper is silent.
"""

from ml_collections import ConfigDict, config_dict

from dear_jax.data.datasets import find_row
from dear_jax.data.world import tasks
from dear_jax.setup.methods import METHODS
from dear_jax.setup.values import to_config

BACKBONE = "openai/clip-vit-base-patch16"  # of all published tables


def get_config() -> ConfigDict:
    """All keys with their defaults: few-shot training of DeAR on the embedded CLIP and world."""
    config = ConfigDict()
    # train | select | evaluate | predict | explain | retrieve | report | push | pretrain | find_roles | compile
    config.job = "train"
    config.protocol = "base2new"  # base2new | few_shot | cross_dataset | domain_generalization; methods/dear section 5
    config.method = "dear"  # how CLIP is adapted: a row of dear_jax/setup/methods, whose keys are the group of its name
    # evaluate, predict, explain, retrieve: workdir (or adapter file) of a finished training run, or
    # hf://USER/NAME[@REVISION] of the Hugging Face Hub; evaluate and explain without: zero-shot CLIP; report, push: the
    # run whose page is made, or that is uploaded
    config.run = ""
    config.run_backbone = ""  # its backbone's folder or hub name, where that is no longer where the run had it
    config.repo = ""  # push: the repository of the Hugging Face Hub that the run is uploaded to, as USER/NAME
    config.run_variant = ""  # predict, explain, retrieve: which variant of the run; empty: its first
    # The same for its seed; None: all (predict: their mean probability, explain: their mean logit).
    config.run_seed = config_dict.placeholder(int)
    # predict, explain, retrieve: folder, pattern such as "photos/**/*.jpg", or text file with a path a line
    config.images = ""
    config.text = ""  # explain: what is looked for, such as "a red wing"; several texts with | between
    config.classes = ""  # predict: names with commas between, or a text file with a name a line; empty: the run's own
    config.variants = ""  # settings trained side by side: a preset (rates, masks, ...) or "NAME: KEY=VALUE; ... | ..."
    config.selection = ""  # workdir of a finished job `select`, whose chosen settings the run takes
    config.seeds = (1, 2, 3)  # trained together in one program; each gives what a run of its own gives
    config.backbone = "embedded"  # the packaged tiny CLIP, a checkpoint's directory or file, a hub name, or ViT-B/16
    config.image_size = config_dict.placeholder(int)  # pixels; position embeddings are resized; None: the backbone's

    config.data = ConfigDict()
    config.data.dataset = "world_compositions"  # a row of dear_jax/data/datasets.py
    config.data.source = "auto"  # coop | tfds | folder | hf; auto: coop where data.root is given, else tfds
    # coop: the folder above the data sets' folders; tfds: its data_dir; folder: of the classes; hf: USER/DATASET of the
    # Hugging Face Hub, with :SUBSET and @REVISION where needed, or a folder saved by `datasets`
    config.data.root = ""
    config.data.image_column = ""  # hf: the column of images; empty: the one that there is
    config.data.label_column = ""  # hf: the column of labels; empty: the one that there is
    config.data.splits = ""  # tfds: a folder with CoOp's split files (or ImageNet's classnames.txt), to use them there
    config.data.split_seed = 0  # of train, val and test where a data set has no splits (one's own images)
    config.data.skip_bad = False  # leave absent and unreadable images out and list them, instead of refusing them
    config.data.exif = True  # turn images as their EXIF tag says; False: the very pixels of the CoOp family's tools
    config.data.cache_gb = 1.0  # GiB of memory for decoded training images; 0: decode them anew each epoch
    config.data.shots = 16  # training images per class
    # JSON lines of the images drawn, in 2SFS's form: read where the file is there, else written. In its name {shots},
    # {seed} and {split} stand for these; empty: images are drawn by the seeds alone, as CoOp's tools do.
    config.data.shots_file = ""
    # Prompt with one {} for the class name; empty: the data set's own. `ensemble`, or a text file with a prompt per
    # line: plain CLIP, zero-shot and as what methods compare with, takes the mean over OpenAI's list or these.
    config.data.template = ""
    config.data.crop_scale = config_dict.placeholder(tuple)  # area share of the random resized crop; None: the recipe's
    config.data.flip = config_dict.placeholder(bool)  # random horizontal flip in training; None: the recipe's
    config.data.workers = 0  # processes that prepare images; 0: threads of this process

    for name, method in METHODS.items():  # each method's own keys: see dear_jax/setup/methods/NAME.py
        config[name] = to_config(method.Options())

    config.roles = ConfigDict()  # how role maps are made; methods/dear section 1
    config.roles.first_layer = config_dict.placeholder(int)  # find_roles: J, from 1; None: floor(2 L / 3) + 1 [P]
    config.roles.attributes = ("color", "shape", "texture", "object", "position")  # find_roles: the core ones [P]
    config.roles.images = 10000  # training images looked at; 0: all
    config.roles.seed = 0  # of the draw of images
    config.roles.batch_size = 50  # images decomposed at a time
    config.roles.bank = ""  # text file, a description per line; empty: the project's own
    config.roles.anchors = ""  # JSON file {"NAME": ["phrase", ...]} that names clusters; empty: the project's own
    config.roles.descriptions = 20  # N, picked for each head; at most its width, all that it can span [D]
    config.roles.rank = 80  # of a head's contributions; at most its width and the joint size d [D]
    config.roles.sentence_encoder = "auto"  # auto | text_tower | lexicon | a sentence-transformers model or its folder
    config.roles.min_cluster_size = 5  # of HDBSCAN, descriptions [D]
    config.roles.min_samples = 3  # of HDBSCAN: the larger, the more noise [D]
    config.roles.noise = "nearest"  # descriptions in no cluster go to the nearest centroid, or: drop [D]
    config.roles.name_similarity = 0.3  # least cosine of a cluster and a concept to be named so [D]
    config.roles.weight = "count"  # a description's vote in the entropy: count | variance (what it explains) [D]
    # What low and high are: quantile of all heads' entropies | bits; or, without these two, chance: a specialist is a
    # head whose entropy is lower than shuffled descriptions have it at `level`, any other is a generalization head [D].
    config.roles.thresholds = "quantile"
    config.roles.low = 1 / 3  # at most this entropy: a specialist [D]
    config.roles.high = 2 / 3  # at least this entropy: a generalization head [D]
    config.roles.level = 0.05  # of `chance`: the probability that a head without a concept is called a specialist [D]
    # What a role rests on: entropy, of the concepts of a head's descriptions [P] | cause, of the attributes whose
    # logits move with the head's contribution when two images exchange it [D].
    config.roles.by = "entropy"
    config.roles.causes = False  # find_roles: measure these exchanges, and accuracy with ever more ablated heads
    config.roles.compare = ""  # find_roles: another role map, to which the page puts this one
    config.roles.cache = "runs/role_maps"  # folder of the role maps that training jobs make
    config.roles.top_images = 8  # images shown per head in the report

    # None: as the method's recipe has it for this protocol, data set and number of shots (dear_jax/setup/recipes.py).
    config.optimizer = ConfigDict()
    config.optimizer.name = config_dict.placeholder(str)  # adamw | adam | sgd, as PyTorch has them
    config.optimizer.learning_rate = config_dict.placeholder(float)  # peak
    config.optimizer.weight_decay = config_dict.placeholder(float)  # adamw's apart from the gradient, else added to it
    config.optimizer.warmup_epochs = config_dict.placeholder(int)  # epochs at the constant warm-up rate
    config.optimizer.warmup_learning_rate = config_dict.placeholder(float)  # of the warm-up
    config.optimizer.schedule = config_dict.placeholder(str)  # epoch_cosine | step_cosine | constant
    config.optimizer.final_learning_rate = config_dict.placeholder(float)  # where step_cosine ends
    config.optimizer.epsilon = config_dict.placeholder(float)  # of adam and adamw
    config.optimizer.momentum = config_dict.placeholder(float)  # of sgd

    config.train = ConfigDict()
    config.train.epochs = config_dict.placeholder(int)  # None: the recipe's
    config.train.share = 1.0  # of the recipe's epochs or steps, rounded up; what is given here counts whole
    config.train.steps = config_dict.placeholder(int)  # in all, instead of epochs; 0, or only epochs given: these count
    config.train.batch_size = config_dict.placeholder(int)  # images per seed and step; all where there are fewer
    config.train.log_every = 10  # steps between rows of metrics.jsonl
    config.train.checkpoint_every = 0  # steps between checkpoints; 0: once an epoch, at most 20 in a run
    config.train.keep_checkpoints = 2  # of the latest steps

    # Where a training run's metrics go as well, while it goes on; metrics.jsonl has them in any case.
    config.log = ConfigDict()
    config.log.tensorboard = False  # event files in the workdir: tensorboard --logdir=WORKDIR
    config.log.wandb = ""  # project of Weights & Biases; empty: none
    config.log.trackio = ""  # project of trackio; empty: none
    config.log.profile = ""  # FIRST:LAST, steps from 1 of which a trace is written to profile/; empty: none

    config.eval = ConfigDict()
    config.eval.batch_size = 100  # images
    # Weights of the paths for classes not trained on: learned | class_only | equal | NUMBER, of the class path; empty:
    # the method's own rule (DeAR: learned [P], MMRL: class_only).
    config.eval.new_classes = ""
    config.eval.rules = ()  # other rules to measure beside the named ones, such as 0,0.9
    config.eval.split = "test"  # whose images are measured on: test | val
    config.eval.predictions = False  # write predictions.csv: what is said of every test image, and by which path
    # evaluate: also measure accuracy with ever more heads ablated, in the order of three scores. Of which role map the
    # Concept Entropy is taken: auto, that of the backbone, or a FILE; empty: nothing of this.
    config.eval.ablation = ""
    config.eval.datasets = ()  # cross_dataset, domain_generalization: what the adapter is also measured on

    # The job `select`: the candidates are config.variants (a preset, such as fusion | masks | all; empty: all, or the
    # learning rates), each with every rule, for every share. Nothing of it reads a test image.
    config.select = ConfigDict()
    config.select.rules = ("learned", "class_only", "equal")  # of eval.new_classes, beside the config's own
    config.select.shares = ()  # other values of train.share: lengths of the training
    config.select.folds = 4  # leave-classes-out, an even number: in pairs, each half of the classes once trained on
    config.select.images = 20  # per class, held out of validation and spare training images
    config.select.seed = 0  # of the draws of classes and images

    config.predict = ConfigDict()
    config.predict.shown = 20  # images printed on the screen; the CSV files have all
    config.predict.explain = False  # heat maps of the predicted class as well, on all paths; see config.explain

    config.explain = ConfigDict()  # heat maps, of the jobs explain and predict
    config.explain.images = 50  # how many, the first, are explained
    config.explain.size = 224  # pixels of an overlay, a square

    config.retrieve = ConfigDict()
    config.retrieve.queries = 200  # images drawn as queries, the others are the gallery; at most half of all
    config.retrieve.seed = 0  # of that draw
    config.retrieve.query_images = ""  # queries of one's own, as config.images, which then is the gallery
    config.retrieve.top = 10  # gallery images shown per query, and of precision@top
    config.retrieve.shown = 6  # queries on the contact sheets

    config.push = ConfigDict()
    config.push.private = False  # whether a repository that is made is private
    config.push.license = ""  # of the adapter, as the hub calls it, such as apache-2.0; empty: none is named
    config.push.pictures = False  # whether the page that is uploaded shows test images, and what they are called

    config.compute = ConfigDict()
    config.compute.dtype = "float32"  # of the towers: float32 | bfloat16; adapter and losses stay float32
    config.compute.class_chunk = 0  # class prompts trained on at a time, to bound memory; 0: as many as fit the device
    config.compute.matmul_precision = "float32"  # float32 products of accelerators: float32 | tensorfloat32 | bfloat16
    config.compute.mesh = ()  # sizes of ("run", "data"), whose product is the number of devices; empty: chosen
    config.compute.shard_backbone = False  # spread the backbone's larger matrices over "data", to save memory
    # Folder of compiled programs, for later starts. auto: that of JAX_COMPILATION_CACHE_DIR, else one below
    # XDG_CACHE_HOME or ~/.cache, 512 MiB at most for a kind of processor; none: no program is kept.
    config.compute.compilation_cache = "auto"
    config.compute.coordinator = ""  # HOST:PORT of process 0, where several processes run one job; empty: one process
    config.compute.processes = 0  # how many processes
    config.compute.process = -1  # which of them this is, from 0
    # The three keys above found by themselves: auto, where a Cloud TPU slice, Slurm or Open MPI has several processes;
    # true: there must be some; false: this process is alone.
    config.compute.distributed = "auto"
    config.compute.coordinator_timeout = 300  # seconds to wait for all processes at the start

    config.topology = ""  # of the job `compile`: a TPU chip and the shape of a slice, such as v5e:8x8
    config.compile = ConfigDict()  # what the job `compile` cannot see, as it needs no data
    config.compile.classes = 0  # trained on; 0: as the data set's row, or its own files, say
    config.compile.prompt_length = 10  # tokens of a class prompt on average, both ends counted; ImageNet: 9.2
    config.compile.evaluation = True  # the evaluation's programs as well; false: the train step alone
    config.lock()
    return config


def choose_dataset(config: ConfigDict, dataset: str) -> ConfigDict:
    """The config for a row of `datasets.DATASETS`, with the backbone of all published tables."""
    config.data.dataset = dataset
    if dataset not in tasks.TASKS:
        config.backbone = BACKBONE
    find_row(dataset)
    return config
