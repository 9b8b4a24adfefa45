import sys
sys.meta_path=[f for f in sys.meta_path if 'skbc' not in type(f).__module__ and 'ScikitBuild' not in type(f).__name__]
