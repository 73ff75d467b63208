"""whinchat: turn a small chat model into a text classifier that can be trusted, on the machine at hand.

Whatever a command of the command line does is one function of this package::

    import whinchat

    recipe = whinchat.load_recipe("demo")
    record = whinchat.run(recipe, "runs/demo")
    predictor = whinchat.Predictor.load("runs/demo")

Importing whinchat loads neither torch nor numpy: each name is imported from its module when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from whinchat.fast_start import no_garbage_collection
from whinchat.server import SERVER_PACKAGES

if TYPE_CHECKING:
    from whinchat.arena.arena_results import ArenaResults
    from whinchat.arena.run_arena import run_arena, summarize_arena
    from whinchat.arena.spec import list_arenas, load_arena
    from whinchat.classifier import Classifier
    from whinchat.errors import WhinchatError
    from whinchat.evaluation.cascade_results import CascadeFacts
    from whinchat.evaluation.label_noise import Review, ReviewedRow
    from whinchat.evaluation.question_review import QuestionsReview, ReviewedAnswer
    from whinchat.export.export_run import export_run
    from whinchat.export.exporter import ExportProof
    from whinchat.export.inspect_model import ModelReport, inspect_model
    from whinchat.inference.predict_file import predict_file
    from whinchat.inference.prediction_columns import LabelCounts
    from whinchat.inference.predictor import Predictions, Predictor
    from whinchat.inference.question_predictor import QuestionPredictions, QuestionPredictor, load_predictor
    from whinchat.pipelines.calibrate_run import calibrate_run
    from whinchat.pipelines.check_recipe import RecipeCheck, check_recipe
    from whinchat.pipelines.compare_runs import compare_runs
    from whinchat.pipelines.distill_run import distill_run, remove_student
    from whinchat.pipelines.evaluate_run import QuestionsEvaluation, RunEvaluation, evaluate_run
    from whinchat.pipelines.init_recipe import InitResult, init_recipe
    from whinchat.pipelines.inspect_example import InspectedExample, inspect_example
    from whinchat.pipelines.inspect_machine import MachineReport, inspect_machine
    from whinchat.pipelines.inspect_questions import InspectedQuestions, inspect_questions
    from whinchat.pipelines.probe_layers import LayerProbe, probe_layers
    from whinchat.pipelines.push_run import PushResult, push_run
    from whinchat.pipelines.rebuild_report import rebuild_report
    from whinchat.pipelines.review_run import review_run
    from whinchat.pipelines.run import run, train_run
    from whinchat.pipelines.tune_run import tune_run
    from whinchat.question_classifier import QuestionClassifier
    from whinchat.recipe.loader import list_recipes, load_recipe
    from whinchat.recipe.schema import Recipe
    from whinchat.recipe.search_space import SearchSpace
    from whinchat.report.bad_result import bad_result_warnings
    from whinchat.report.question_notes import question_warnings
    from whinchat.report.run_list import RunSummary, list_runs
    from whinchat.server.api_schema import Limits
    from whinchat.server.serve import run_server
    from whinchat.storage.questions_record import QuestionsRecord
    from whinchat.storage.review_folder import ReviewFolder
    from whinchat.storage.run_comparison import RunComparison
    from whinchat.storage.run_folder import RunFolder
    from whinchat.storage.run_record import RunRecord
    from whinchat.storage.tune_folder import TuneFolder
    from whinchat.storage.tune_record import TuneResult, TuneTrial

__version__ = "0.2.0.dev0"

# The module of each public name; the imports above say the same to type checkers.
_NAMES_OF_MODULES = {
    "whinchat.arena.arena_results": ("ArenaResults",),
    "whinchat.arena.run_arena": ("run_arena", "summarize_arena"),
    "whinchat.arena.spec": ("list_arenas", "load_arena"),
    "whinchat.classifier": ("Classifier",),
    "whinchat.errors": ("WhinchatError",),
    "whinchat.evaluation.label_noise": ("Review", "ReviewedRow"),
    "whinchat.evaluation.question_review": ("QuestionsReview", "ReviewedAnswer"),
    "whinchat.export.export_run": ("export_run",),
    "whinchat.export.exporter": ("ExportProof",),
    "whinchat.evaluation.cascade_results": ("CascadeFacts",),
    "whinchat.inference.predict_file": ("predict_file",),
    "whinchat.inference.prediction_columns": ("LabelCounts",),
    "whinchat.inference.predictor": ("Predictions", "Predictor"),
    "whinchat.inference.question_predictor": ("QuestionPredictions", "QuestionPredictor", "load_predictor"),
    "whinchat.pipelines.calibrate_run": ("calibrate_run",),
    "whinchat.pipelines.check_recipe": ("RecipeCheck", "check_recipe"),
    "whinchat.pipelines.compare_runs": ("compare_runs",),
    "whinchat.pipelines.distill_run": ("distill_run", "remove_student"),
    "whinchat.pipelines.evaluate_run": ("QuestionsEvaluation", "RunEvaluation", "evaluate_run"),
    "whinchat.pipelines.init_recipe": ("InitResult", "init_recipe"),
    "whinchat.pipelines.inspect_example": ("InspectedExample", "inspect_example"),
    "whinchat.pipelines.inspect_questions": ("InspectedQuestions", "inspect_questions"),
    "whinchat.pipelines.inspect_machine": ("MachineReport", "inspect_machine"),
    "whinchat.export.inspect_model": ("ModelReport", "inspect_model"),
    "whinchat.pipelines.probe_layers": ("LayerProbe", "probe_layers"),
    "whinchat.pipelines.push_run": ("PushResult", "push_run"),
    "whinchat.pipelines.rebuild_report": ("rebuild_report",),
    "whinchat.pipelines.review_run": ("review_run",),
    "whinchat.pipelines.run": ("run", "train_run"),
    "whinchat.pipelines.tune_run": ("tune_run",),
    "whinchat.question_classifier": ("QuestionClassifier",),
    "whinchat.recipe.loader": ("list_recipes", "load_recipe"),
    "whinchat.recipe.schema": ("Recipe",),
    "whinchat.recipe.search_space": ("SearchSpace",),
    "whinchat.report.bad_result": ("bad_result_warnings",),
    "whinchat.report.question_notes": ("question_warnings",),
    "whinchat.report.run_list": ("RunSummary", "list_runs"),
    "whinchat.server.api_schema": ("Limits",),
    "whinchat.server.serve": ("run_server",),
    "whinchat.storage.questions_record": ("QuestionsRecord",),
    "whinchat.storage.review_folder": ("ReviewFolder",),
    "whinchat.storage.run_comparison": ("RunComparison",),
    "whinchat.storage.run_folder": ("RunFolder",),
    "whinchat.storage.run_record": ("RunRecord",),
    "whinchat.storage.tune_folder": ("TuneFolder",),
    "whinchat.storage.tune_record": ("TuneResult", "TuneTrial"),
}
_MODULE_OF = {name: module for module, names in _NAMES_OF_MODULES.items() for name in names}

__all__ = [
    "ArenaResults", "CascadeFacts", "Classifier", "ExportProof", "InitResult", "InspectedExample", "InspectedQuestions",
    "LabelCounts", "LayerProbe", "Limits", "MachineReport", "ModelReport", "Predictions", "Predictor", "PushResult",
    "QuestionClassifier", "QuestionPredictions", "QuestionPredictor", "QuestionsEvaluation", "QuestionsRecord",
    "QuestionsReview", "Recipe", "RecipeCheck", "Review", "ReviewFolder", "ReviewedAnswer", "ReviewedRow",
    "RunComparison", "RunEvaluation", "RunFolder", "RunRecord", "RunSummary", "SearchSpace", "TuneFolder", "TuneResult",
    "TuneTrial", "WhinchatError", "__version__", "bad_result_warnings", "calibrate_run", "check_recipe", "compare_runs",
    "distill_run", "evaluate_run", "export_run", "init_recipe", "inspect_example", "inspect_machine", "inspect_model",
    "inspect_questions", "list_arenas", "list_recipes", "list_runs", "load_arena", "load_predictor", "load_recipe",
    "predict_file", "probe_layers", "push_run", "question_warnings", "rebuild_report", "remove_student", "review_run",
    "run", "run_arena", "run_server", "summarize_arena", "train_run", "tune_run",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        with no_garbage_collection():
            module = import_module(_MODULE_OF[name])
    except ModuleNotFoundError as error:
        if error.name in SERVER_PACKAGES:
            raise ImportError(f"whinchat.{name}: needs {error.name}; pip install 'whinchat[serve]'") from error
        raise
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
